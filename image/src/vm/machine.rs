//! A virtual machine as data, and QEMU's command line for it: a function without effects beside looking for firmware.
//!
//! Source: qemu(1); QEMU documentation, "Device Emulation" and "boot order" (`docs/bootindex.txt`).

use super::accel::Accel;
use super::{Qmp, firmware};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

/// QEMU's arguments for emulation by translation. cmpxchg16b under TCG now and then double-faults the guest's kernel
/// with Debian 12's QEMU 7.2, so the CPU has none.
pub const TCG: [&str; 4] = ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16"];

/// A virtual machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What runs first.
    pub firmware: Firmware,
    /// What the firmware boots first; the disks come after it.
    pub boot: Boot,
    /// How the CPU is emulated; [`super::accel::choose`] finds out whether KVM works.
    pub accel: Accel,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// How they lie in nodes and cores, instead of one core each: then it says how many they are, too.
    pub shape: Option<CpuShape>,
    /// Disks, in order.
    pub disks: Vec<Disk>,
    /// Network cards, in order.
    pub nics: Vec<Nic>,
    /// Copy of what the serial port, ttyS0, says on QEMU's standard output.
    pub serial_log: Option<PathBuf>,
    /// This machine's own copy of OVMF's variables; without one they are not kept.
    pub uefi_vars: Option<PathBuf>,
    /// Socket of the QEMU machine protocol; needed to take links down.
    pub qmp: Option<PathBuf>,
    /// QEMU ends when the guest reboots.
    pub no_reboot: bool,
    /// Clock at power-on, `2020-01-01T00:00:00`; the host's when `None`.
    pub rtc: Option<String>,
    /// SMBIOS system UUID.
    pub uuid: Option<String>,
    /// SMBIOS system serial number.
    pub serial_number: Option<String>,
    /// Further arguments, as they are.
    pub extra: Vec<String>,
}

/// What runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// SeaBIOS, which QEMU brings.
    Bios,
    /// OVMF.
    Uefi,
}

/// Nodes, cores and threads of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuShape {
    /// NUMA nodes, each a socket, with the same part of the memory.
    pub nodes: u32,
    /// Cores of each node.
    pub cores: u32,
    /// Threads of each core; neighbours have neighbouring numbers.
    pub threads: u32,
}

/// What is booted first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A kernel that QEMU loads itself.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// The initramfs.
        initrd: PathBuf,
        /// Kernel arguments.
        append: String,
    },
    /// The first network card, whose option ROM is iPXE.
    Pxe {
        /// The iPXE script, as DHCP's boot file name: a URL.
        script: String,
    },
    /// The same, with QEMU's own TFTP server.
    PxeTftp {
        /// The directory that is served.
        directory: PathBuf,
        /// The iPXE script in it.
        script: String,
    },
    /// The first network card, by what the firmware has for it; what is loaded is said by the DHCP server on the card's tap.
    /// OVMF has PXE of its own; for SeaBIOS it is the card's option ROM, iPXE.
    Network,
    /// A USB stick.
    Usb {
        /// Its image, raw; what is written to it is thrown away.
        image: PathBuf,
    },
    /// The first disk.
    Disk,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its image.
    pub path: PathBuf,
    /// The image's format, `raw` or `qcow2`.
    pub format: String,
    /// Where it is attached.
    pub bus: Bus,
    /// Logical and physical sector size in bytes: 512 or 4096. AHCI knows 512 only.
    pub sector_bytes: u32,
    /// Serial number.
    pub serial: String,
}

/// Where a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Bus {
    /// virtio-blk.
    VirtioBlk,
    /// SATA behind an AHCI controller.
    Ahci,
    /// NVM Express.
    Nvme,
    /// SCSI behind virtio-scsi.
    VirtioScsi,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The card.
    pub model: NicModel,
    /// MAC address.
    pub mac: String,
    /// Whether the cable is in. Without one QEMU starts paused, until [`Machine::release`].
    pub link: bool,
    /// A tap of the host. Without one the card has a user network of its own, where the host is 10.0.2.2.
    pub tap: Option<String>,
    /// TCP ports of the host's loopback that lead to the guest.
    pub forwards: Vec<Forward>,
}

/// Model of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NicModel {
    /// virtio-net.
    Virtio,
    /// Intel 82574L.
    E1000e,
}

/// A TCP port of the host's loopback that leads to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
}

impl Machine {
    /// A machine with 1024 MiB, two CPUs under TCG, no disk and no network card, that boots `boot`.
    #[must_use]
    pub fn new(firmware: Firmware, boot: Boot) -> Self {
        Self {
            firmware,
            boot,
            accel: Accel::Tcg,
            memory_mib: 1024,
            cpus: 2,
            shape: None,
            disks: Vec::new(),
            nics: Vec::new(),
            serial_log: None,
            uefi_vars: None,
            qmp: None,
            no_reboot: false,
            rtc: None,
            uuid: None,
            serial_number: None,
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments, without the program itself.
    ///
    /// # Errors
    /// Firmware or an option ROM is not installed; the error names the Debian package.
    pub fn arguments(&self) -> Result<Vec<String>> {
        let mut args = Args::default();
        // q35 has PCI Express, which NVMe and e1000e are made for.
        args.add("-machine", "q35");
        args.all(&["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-monitor", "none"]);
        match self.accel {
            Accel::Kvm => args.all(&["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => args.all(&TCG),
        }
        args.add("-m", self.memory_mib.to_string());
        match self.shape {
            None => args.add("-smp", self.cpus.to_string()),
            Some(shape) => add_shape(&mut args, shape, self.memory_mib),
        }
        // Without entropy OVMF shows no network entries, and a guest's first random numbers take long.
        args.add("-device", "virtio-rng-pci");
        self.add_firmware(&mut args)?;
        self.add_boot(&mut args);
        self.disks.iter().enumerate().for_each(|(i, disk)| add_disk(&mut args, i, disk));
        for (i, nic) in self.nics.iter().enumerate() {
            self.add_nic(&mut args, i, nic)?;
        }
        self.add_serial(&mut args);
        self.add_identity(&mut args);
        args.0.extend(self.extra.iter().cloned());
        Ok(args.0)
    }

    /// Whether QEMU starts paused and waits for [`Self::release`]: a link can only be taken down through the monitor.
    #[must_use]
    pub fn needs_monitor(&self) -> bool {
        self.nics.iter().any(|nic| !nic.link)
    }

    /// Takes down the links that shall be down and lets the guest run.
    ///
    /// # Errors
    /// QEMU refuses it.
    pub fn release(&self, monitor: &mut Qmp) -> Result<()> {
        for (i, _) in self.nics.iter().enumerate().filter(|(_, nic)| !nic.link) {
            let down = json!({"name": format!("nic{i}"), "up": false});
            monitor.execute("set_link", &down).with_context(|| format!("cannot take nic{i}'s link down"))?;
        }
        monitor.execute("cont", &json!({})).context("cannot start the guest")?;
        Ok(())
    }

    fn add_firmware(&self, args: &mut Args) -> Result<()> {
        if self.firmware == Firmware::Uefi {
            let code = firmware::ovmf_code().path()?;
            args.add("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(&code)));
            let (vars, keep) = match &self.uefi_vars {
                Some(vars) => (vars.clone(), ""),
                None => (firmware::ovmf_vars().path()?, ",snapshot=on"),
            };
            args.add("-drive", format!("if=pflash,unit=1,format=raw{keep},file={}", escaped(&vars)));
        }
        Ok(())
    }

    fn add_boot(&self, args: &mut Args) {
        match &self.boot {
            Boot::Direct { kernel, initrd, append } => {
                args.add("-kernel", kernel.display().to_string());
                args.add("-initrd", initrd.display().to_string());
                args.add("-append", append.as_str());
            }
            Boot::Usb { image } => {
                args.add(
                    "-drive",
                    format!("if=none,id=stick,format=raw,snapshot=on,file={}", escaped(image)),
                );
                args.add("-device", "qemu-xhci,id=usb");
                args.add("-device", "usb-storage,bus=usb.0,drive=stick,removable=on,bootindex=0");
            }
            Boot::Pxe { .. } | Boot::PxeTftp { .. } | Boot::Network | Boot::Disk => {}
        }
    }

    fn add_nic(&self, args: &mut Args, i: usize, nic: &Nic) -> Result<()> {
        let mut netdev = match &nic.tap {
            Some(tap) => format!("tap,id=net{i},ifname={},script=no,downscript=no", tap.replace(',', ",,")),
            None => format!("user,id=net{i}"),
        };
        if let (0, Boot::Pxe { script } | Boot::PxeTftp { script, .. }) = (i, &self.boot) {
            netdev.push_str(&format!(",bootfile={}", script.replace(',', ",,")));
        }
        if let (0, Boot::PxeTftp { directory, .. }) = (i, &self.boot) {
            netdev.push_str(&format!(",tftp={}", escaped(directory)));
        }
        for Forward { host, guest } in &nic.forwards {
            netdev.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
        }
        args.add("-netdev", netdev);
        let model = match nic.model {
            // Debian's iPXE is for the modern device only, and SeaBIOS runs no ROM whose device id is another.
            NicModel::Virtio => "virtio-net-pci,disable-legacy=on",
            NicModel::E1000e => "e1000e",
        };
        let rom = if i == 0 { self.boot_rom(nic.model)? } else { NO_ROM.to_owned() };
        args.add("-device", format!("{model},id=nic{i},netdev=net{i},mac={}{rom}", nic.mac));
        Ok(())
    }

    /// How the first card takes part in the firmware's boot.
    fn boot_rom(&self, model: NicModel) -> Result<String> {
        match (&self.boot, self.firmware) {
            (Boot::Network, Firmware::Uefi) => Ok(format!("{NO_ROM},bootindex=0")),
            (Boot::Network | Boot::Pxe { .. } | Boot::PxeTftp { .. }, _) => {
                Ok(format!(",romfile={},bootindex=0", escaped(&firmware::ipxe_rom(model).path()?)))
            }
            (Boot::Direct { .. } | Boot::Usb { .. } | Boot::Disk, _) => Ok(NO_ROM.to_owned()),
        }
    }

    fn add_serial(&self, args: &mut Args) {
        let log =
            self.serial_log.as_deref().map(|log| format!(",logfile={}", escaped(log))).unwrap_or_default();
        // signal=on: on a terminal ctrl-C ends QEMU.
        args.add("-chardev", format!("stdio,id=serial0,signal=on{log}"));
        args.add("-serial", "chardev:serial0");
    }

    fn add_identity(&self, args: &mut Args) {
        if let Some(qmp) = &self.qmp {
            args.add("-qmp", format!("unix:{},server=on,wait=off", escaped(qmp)));
        }
        if self.needs_monitor() {
            args.all(&["-S"]);
        }
        if self.no_reboot {
            args.all(&["-no-reboot"]);
        }
        if let Some(rtc) = &self.rtc {
            args.add("-rtc", format!("base={rtc}"));
        }
        if let Some(uuid) = &self.uuid {
            args.add("-uuid", uuid.as_str());
        }
        if let Some(serial) = &self.serial_number {
            args.add("-smbios", format!("type=1,serial={}", serial.replace(',', ",,")));
        }
    }
}

/// QEMU would give the card an option ROM.
const NO_ROM: &str = ",romfile=";

/// QEMU numbers CPUs thread by thread, core by core, socket by socket.
fn add_shape(args: &mut Args, CpuShape { nodes, cores, threads }: CpuShape, memory_mib: u32) {
    let each = cores * threads;
    args.add("-smp", format!("cpus={},sockets={nodes},cores={cores},threads={threads}", nodes * each));
    for node in (0..nodes).filter(|_| nodes > 1) {
        let (first, last, part) = (node * each, (node + 1) * each - 1, memory_mib / nodes);
        args.add("-object", format!("memory-backend-ram,id=memory{node},size={part}M"));
        args.add("-numa", format!("node,nodeid={node},cpus={first}-{last},memdev=memory{node}"));
    }
}

fn add_disk(args: &mut Args, i: usize, disk: &Disk) {
    let (format, file) = (&disk.format, escaped(&disk.path));
    args.add("-drive", format!("if=none,id=disk{i},format={format},discard=unmap,file={file}"));
    let device = match disk.bus {
        Bus::VirtioBlk => "virtio-blk-pci".to_owned(),
        Bus::Nvme => "nvme".to_owned(),
        Bus::Ahci => {
            args.add("-device", format!("ich9-ahci,id=ahci{i}"));
            format!("ide-hd,bus=ahci{i}.0")
        }
        Bus::VirtioScsi => {
            args.add("-device", format!("virtio-scsi-pci,id=scsi{i}"));
            format!("scsi-hd,bus=scsi{i}.0")
        }
    };
    let sectors = match disk.sector_bytes {
        512 => String::new(),
        bytes => format!(",logical_block_size={bytes},physical_block_size={bytes}"),
    };
    let serial = disk.serial.replace(',', ",,");
    // Index 0 is the network card's or the stick's.
    args.add("-device", format!("{device},drive=disk{i}{sectors},serial={serial},bootindex={}", i + 1));
}

/// A path inside an option list: a comma is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.extend([name.to_owned(), value.into()]);
    }

    fn all(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }
}

#[cfg(test)]
mod tests;
