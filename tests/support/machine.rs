//! The QEMU command for a test's machine, through `tatara::vm`: what users run is what is tested.

use crate::guest::{Nic, Setup, Start, mac};
use crate::server::Server;
use crate::{medium, tool};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tatara::vm::{Boot, Disk, Firmware, Forward, Machine, NicModel, Qmp, firmware};

/// Name of the slot of [`Setup::free_slot`].
pub(crate) const FREE_SLOT: &str = "free-slot";

/// Starts the machine, with its serial port on standard output.
///
/// # Panics
/// When QEMU or firmware is not installed, or a start other than from the disk has no server.
#[must_use]
pub(crate) fn start(setup: &Setup, server: Option<&Server>) -> Child {
    let mut machine = Machine::new(setup.firmware, boot(setup, server));
    machine.memory_mib = setup.memory_mib;
    machine.shape = setup.shape;
    machine.no_reboot = true;
    machine.extra.clone_from(&setup.qemu_args);
    if setup.free_slot {
        // q35's own bus takes no card while the machine runs.
        let port = ["-device", &format!("pcie-root-port,id={FREE_SLOT},chassis=1")];
        machine.extra.extend(port.map(str::to_owned));
    }
    machine.disks = disks(setup);
    machine.nics = nics(setup);
    machine.rtc.clone_from(&setup.rtc);
    if setup.firmware == Firmware::Uefi {
        machine.uefi_vars = Some(variables(setup));
    }
    let socket = setup.scratch().join("qmp");
    machine.qmp = Some(socket.clone());
    let mut command = Command::new("qemu-system-x86_64");
    command.args(machine.arguments().expect("firmware").into_iter().map(|argument| threads(setup, argument)));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("QEMU");
    if machine.needs_monitor() {
        let mut monitor = Qmp::connect(&socket).expect("QEMU's monitor");
        machine.release(&mut monitor).expect("the machine runs");
    }
    child
}

/// Machines of more CPUs are emulated by one thread, one CPU after the other: with a thread a CPU QEMU now and then runs a breakpoint
/// that the kernel has taken out of its code meanwhile (`Oops: int3`), the likelier the more threads share the host's cores.
const CPUS_WITH_THREADS: u32 = 8;

fn threads(setup: &Setup, argument: String) -> String {
    let cpus = setup.shape.map_or(1, |shape| shape.nodes * shape.cores * shape.threads);
    if argument == "tcg,thread=multi" && cpus > CPUS_WITH_THREADS {
        return "tcg,thread=single".into();
    }
    argument
}

fn boot(setup: &Setup, server: Option<&Server>) -> Boot {
    let server = || server.expect("this start needs a server");
    match setup.start {
        Start::Disk => Boot::Disk,
        Start::Given => {
            let (kernel, initrd, append) = setup.given.clone().expect("Setup::given");
            Boot::Direct { kernel, initrd, append }
        }
        Start::Pxe if !setup.taps.is_empty() => Boot::Network,
        Start::Pxe => Boot::Pxe { script: format!("http://10.0.2.2:{}/boot.ipxe", server().http_port) },
        Start::Usb => Boot::Usb { image: stick(server(), &arguments(setup, server())) },
        Start::Direct => Boot::Direct {
            kernel: server().www().join("vmlinuz"),
            initrd: server().www().join("initramfs.zst"),
            append: arguments(setup, server()),
        },
    }
}

fn arguments(setup: &Setup, server: &Server) -> String {
    let args = server.kernel_args();
    let args = setup.pin.as_ref().map_or(args.clone(), |pin| args.replace(&server.pin, pin));
    // With `panic=10` nothing is missing on a node without isolation: no kexec, which tests/boot.rs is about.
    let consoles: String = setup.consoles.iter().map(|name| format!("console={name} ")).collect();
    let more: String = setup.kernel_args.iter().map(|arg| format!("{arg} ")).collect();
    // The kernel looks whether its timer interrupts, and panics when none comes in a quarter of a second, which is as long as a busy host
    // may leave an emulated one waiting (kernel, arch/x86/kernel/apic/io_apic.c, check_timer).
    format!("{consoles}panic=10 no_timer_check {more}{args}")
}

fn stick(server: &Server, args: &str) -> PathBuf {
    let image = server.scratch().join("usb.img");
    let mut command = Command::new(tool());
    command.args(["image", "usb", "--args", args, "--release"]).arg(server.www().join("release"));
    let output = command.arg("--output").arg(&image).output().expect("tatara image usb");
    assert!(output.status.success(), "tatara image usb: {}", String::from_utf8_lossy(&output.stderr));
    image
}

fn disks(setup: &Setup) -> Vec<Disk> {
    let disk = |(i, (path, (bus, sector_bytes))): (usize, (PathBuf, &(tatara::vm::Bus, u32)))| Disk {
        path: setup.between.as_ref().filter(|_| i == 0).map_or(path, medium::path),
        format: "raw".to_owned(),
        bus: *bus,
        sector_bytes: *sector_bytes,
        serial: format!("TATARA{i}"),
    };
    let mut disks: Vec<Disk> =
        setup.disk_paths().into_iter().zip(&setup.disks).enumerate().map(disk).collect();
    if setup.swapped {
        disks.reverse();
    }
    disks
}

fn nics(setup: &Setup) -> Vec<tatara::vm::Nic> {
    let nic = |(i, nic): (usize, &Nic)| {
        let link = *nic != Nic::VirtioWithoutLink;
        let port = setup.ssh_port.as_ref().filter(|_| link);
        let forwards = port.map(|port| Forward { host: port.number(), guest: 22 });
        tatara::vm::Nic {
            model: if *nic == Nic::E1000e { NicModel::E1000e } else { NicModel::Virtio },
            mac: mac(i),
            link,
            tap: setup.taps.get(i).cloned(),
            forwards: forwards.into_iter().collect(),
        }
    };
    setup.nics.iter().enumerate().map(nic).collect()
}

/// A copy of OVMF's variables that stays with the machine's disks.
fn variables(setup: &Setup) -> PathBuf {
    let path = setup.scratch().join("uefi-vars.fd");
    if !path.exists() {
        std::fs::copy(firmware::ovmf_vars().path().expect("OVMF"), &path).expect("OVMF's variables");
    }
    path
}
