//! Installs on the machines there are: disk controllers, sector sizes, NICs, little memory; and what happens afterwards:
//! PXE first, reinstall, upgrade. The payload is the small one, whose init prints what it finds and powers off.

use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;
use support::config::NodeYaml;
use support::console::{Console, Waited};
use support::guest::{Bus, Firmware, Guest, Nic, Setup, Start};
use support::release;
use support::server::Server;
use support::state;
use support::tool;

const INSTALL: Duration = Duration::from_secs(400);
const BOOT: Duration = Duration::from_secs(200);

fn served(setup: &Setup, config: &NodeYaml) -> Server {
    let server = Server::start(&release::small(), &["console=ttyS0", "panic=10"]);
    server.publish(&setup.mac(), &config.text());
    server
}

/// Installs, and returns what the checker found.
fn installs(setup: &Setup) -> serde_json::Value {
    let server = served(setup, &NodeYaml::new("node-1"));
    let guest = Guest::start(setup, Some(&server));
    guest.expect("step=record state=ok", INSTALL);
    let found = guest.findings(BOOT);
    guest.ended(BOOT);
    assert_eq!(found["texts"]["/etc/hostname"], "node-1");
    found
}

/// What every installed root must be like.
fn check(found: &serde_json::Value) {
    assert_eq!(found["etc_writable"], true, "/etc is an overlay");
    assert_eq!(found["var_writable"], true, "/var is the state partition");
    assert_eq!(found["usr_writable"], false, "root is read-only");
    assert_eq!(found["config_mode"], "0600");
    assert_eq!(found["state_mode"], "0700");
    assert_eq!(found["run_mode"], "0755", "status is for everybody");
    assert_eq!(found["boot_mode"], "0644");
    let machine_id = found["texts"]["/etc/machine-id"].as_str().unwrap_or_default();
    assert!(machine_id.len() == 32 && machine_id.bytes().all(|b| b.is_ascii_hexdigit()), "`{machine_id}`");
}

/// What PID 1 left about this boot.
fn boot(found: &serde_json::Value) -> serde_json::Value {
    let text = found["texts"]["/run/tatara/boot.json"].as_str().unwrap_or_default();
    serde_json::from_str(text).expect("boot.json")
}

/// The disk has 12 GiB; slots and ESP take 6.5 of them. The image of the state partition is far smaller.
fn check_grown(found: &serde_json::Value) {
    let bytes = found["var_bytes"].as_u64().unwrap_or(0);
    assert!(bytes > 4 << 30, "the state partition was not grown: {bytes} bytes");
}

/// One CPU, as the machines of tests/faults have it; tests/boot.rs has two.
fn machine(firmware: Firmware, start: Start) -> Setup {
    Setup::new(firmware, start).shape(1, 1, 1)
}

fn disk(bus: Bus) -> Setup {
    machine(Firmware::Bios, Start::Direct).disks(&[(bus, 512)])
}

#[test]
fn virtio_blk_disk() {
    let found = installs(&disk(Bus::VirtioBlk));
    check(&found);
    check_grown(&found);
}

#[test]
fn ahci_disk() {
    check(&installs(&disk(Bus::Ahci)));
}

#[test]
fn nvme_disk() {
    check(&installs(&disk(Bus::Nvme)));
}

#[test]
fn virtio_scsi_disk() {
    check(&installs(&disk(Bus::VirtioScsi)));
}

/// With `install.confirm: console` no disk is laid out before its name was typed twice.
#[test]
fn a_disk_whose_name_was_typed_twice() {
    let setup = disk(Bus::VirtioBlk).vga_console();
    let mut config = NodeYaml::new("node-1");
    config.install = "  confirm: console\n";
    let server = served(&setup, &config);
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("type `vda` and Enter, twice", INSTALL);
    guest.types("vdb");
    guest.expect("that is not `vda`; nothing is overwritten", BOOT);
    guest.types("vda");
    guest.expect("type `vda` once more", BOOT);
    assert_eq!(guest.bytes_written().expect("QEMU's statistics"), 0);
    guest.types("vda");
    guest.expect("step=confirm state=ok", BOOT);
    guest.expect("step=record state=ok", INSTALL);
    check(&guest.findings(BOOT));
    guest.ended(BOOT);
}

#[test]
fn sectors_of_4096_bytes() {
    let setup = machine(Firmware::Uefi, Start::Direct).disks(&[(Bus::Nvme, 4096)]);
    check(&installs(&setup));
    let guest = Guest::start(&setup.again(Start::Disk), None);
    check(&guest.findings(BOOT));
}

#[test]
fn e1000e_nic() {
    check(&installs(&machine(Firmware::Bios, Start::Direct).nics(&[Nic::E1000e])));
}

#[test]
fn a_dead_nic_does_not_hold_the_other() {
    let setup = machine(Firmware::Bios, Start::Direct).nics(&[Nic::VirtioWithoutLink, Nic::Virtio]);
    check(&installs(&setup));
}

#[test]
fn reboot_through_the_firmware_when_asked() {
    let setup = machine(Firmware::Uefi, Start::Pxe);
    let mut config = NodeYaml::new("node-1");
    config.handover = "firmware";
    let server = served(&setup, &config);
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", INSTALL);
    // `-no-reboot`: the machine ends where it would go through its firmware.
    guest.ended(BOOT);
    assert_eq!(guest.kernels(), 1, "no kexec");
    check(&Guest::start(&setup.again(Start::Disk), None).findings(BOOT));
}

/// The whole life: PXE always first; equal generation boots, a higher one reinstalls, another release upgrades.
#[test]
fn pxe_first_boots_the_disk_until_the_generation_is_raised() {
    let setup = machine(Firmware::Bios, Start::Pxe);
    let mut config = NodeYaml::new("node-1");
    let server = served(&setup, &config);
    let first = Guest::start(&setup, Some(&server));
    let installed = first.findings(INSTALL);
    first.ended(BOOT);
    assert_eq!(installed["boots"], 1);

    let again = Guest::start(&setup.again(Start::Pxe), Some(&server));
    let booted = again.findings(BOOT);
    assert!(again.never("step=partition"), "the same generation must not install:\n{}", again.tail());
    assert_eq!(booted["boots"], 2, "/var was kept");
    assert_eq!(booted["texts"]["/etc/machine-id"], installed["texts"]["/etc/machine-id"]);
    again.ended(BOOT);

    config.generation = 2;
    server.publish(&setup.mac(), &config.text());
    let raised = Guest::start(&setup.again(Start::Pxe), Some(&server));
    let reinstalled = raised.findings(INSTALL);
    assert_eq!(reinstalled["boots"], 1, "a reinstall makes /var anew");
}

#[test]
fn another_release_goes_to_the_other_slot() {
    let setup = machine(Firmware::Uefi, Start::Direct);
    let server = served(&setup, &NodeYaml::new("node-1"));
    let first = Guest::start(&setup, Some(&server));
    let installed = first.findings(INSTALL);
    first.ended(BOOT);

    server.other_release();
    let upgrade = Guest::start(&setup.again(Start::Direct), Some(&server));
    upgrade.expect("step=record state=ok", INSTALL);
    let upgraded = upgrade.findings(BOOT);
    upgrade.ended(BOOT);
    assert_eq!(upgraded["boots"], 2, "an upgrade keeps /var");
    assert_eq!(boot(&installed)["slot"], "a");
    assert_eq!(boot(&upgraded)["slot"], "b");

    // Nothing blesses this payload: GRUB tries the new slot as often as it may, then boots the old one.
    let slots: Vec<String> = (0..4)
        .map(|_| {
            let guest = Guest::start(&setup.again(Start::Disk), None);
            let found = guest.findings(BOOT);
            guest.ended(BOOT);
            boot(&found)["slot"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(slots.last().map(String::as_str), Some("a"), "never fell back: {slots:?}");
    assert_eq!(slots.first().map(String::as_str), Some("b"), "the trial slot got no boot: {slots:?}");
}

/// The config that a node has fetched asks for more than a boot: a plain boot from the disk does it, and then nothing waits any more.
#[test]
fn what_is_staged_reinstalls_and_upgrades() {
    const ASKS: &str = "as the staged config asks for more than a boot: ";
    let setup = machine(Firmware::Bios, Start::Direct);
    let server = served(&setup, &NodeYaml::new("node-1"));
    let first = Guest::start(&setup, Some(&server));
    let installed = first.findings(INSTALL);
    first.ended(BOOT);

    let from_disk = |action: &str| {
        state::stage(&setup, &server);
        let guest = Guest::start(&setup.again(Start::Disk), None);
        guest.expect(ASKS, BOOT);
        guest.expect(&format!("action={action} "), BOOT);
        guest.expect("step=record state=ok", INSTALL);
        let found = guest.findings(BOOT);
        guest.ended(BOOT);
        assert!(!state::is_staged(&setup), "it is done, and would be done again:\n{}", guest.tail());
        found
    };
    server.publish(&setup.mac(), &NodeYaml { generation: 2, ..NodeYaml::new("node-1") }.text());
    let reinstalled = from_disk("reinstall");
    assert_eq!(reinstalled["boots"], 1, "a reinstall makes /var anew");
    assert_ne!(reinstalled["texts"]["/etc/machine-id"], installed["texts"]["/etc/machine-id"]);
    assert_eq!(boot(&reinstalled)["generation"], 2);

    server.publish(&setup.mac(), &NodeYaml { generation: 2, serial: 2, ..NodeYaml::new("node-1") }.text());
    server.other_release();
    let upgraded = from_disk("upgrade");
    assert_eq!(upgraded["boots"], 2, "an upgrade keeps /var");
    let (before, after) = (boot(&reinstalled), boot(&upgraded));
    assert_eq!((&after["slot"], &after["trial"]["slot"]), (&"b".into(), &"b".into()), "{after}");
    assert_ne!(after["release"], before["release"]);
}

/// `tatara vm run`; it ends with the value, and its machine with it.
struct Command {
    child: Child,
    console: Console,
    errors: Console,
}

impl Command {
    fn start(args: &[&str]) -> Self {
        let mut command = std::process::Command::new(tool());
        command.args(["vm", "run"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("tatara vm run");
        let console = Console::read(child.stdout.take().expect("its output"));
        let errors = Console::read(child.stderr.take().expect("its errors"));
        Self { child, console, errors }
    }

    fn expect(&self, needle: &str, within: Duration) -> String {
        match self.console.wait_for(needle, within) {
            Waited::Line(_, line) => line,
            _ => panic!("no `{needle}`:\n{}{}", self.errors.tail(10), self.console.tail(60)),
        }
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("its process"), rustix::process::Signal::TERM);
    }

    fn ends(mut self) -> Option<i32> {
        self.child.wait().expect("its end").code()
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

/// The command that users and their CI have, from its arguments to its exit status.
#[test]
fn tatara_vm_run_by_pxe_then_from_the_disk_until_a_signal() {
    const MAC: &str = "52:54:00:12:34:57";
    let server = Server::start(&release::small(), &["console=ttyS0", "panic=10"]);
    server.publish(MAC, &NodeYaml::new("node-1").text());
    let path = |name: &str| server.scratch().join(name).display().to_string();
    let (disk, log, socket) = (path("disk.raw"), path("console.log"), path("qmp"));
    let script = format!("http://10.0.2.2:{}/boot.ipxe", server.http_port);

    let sized = format!("{disk}:12GiB");
    let by_pxe = [
        "--boot",
        "pxe",
        "--bootfile",
        &script,
        "--disk",
        &sized,
        "--mac",
        MAC,
        "--cpus",
        "1",
        "--no-reboot",
    ];
    let installed = Command::start(&by_pxe);
    assert!(matches!(installed.errors.wait_for("tatara: accelerator ", BOOT), Waited::Line(..)));
    installed.expect("step=record state=ok", INSTALL);
    assert!(installed.expect("checker: {", BOOT).contains("node-1"));
    assert_eq!(installed.ends(), Some(0), "its machine has powered itself off");

    let bios = [
        "--firmware",
        "bios",
        "--bus",
        "nvme",
        "--disk",
        &disk,
        "--cpus",
        "1",
        "--log",
        &log,
        "--qmp",
        &socket,
    ];
    let booted = Command::start(&bios);
    booted.expect("Run /init as init process", BOOT);
    UnixStream::connect(&socket).expect("QEMU answers");
    booted.terminate();
    assert!(matches!(booted.errors.wait_for("SIGTERM ended the machine", BOOT), Waited::Line(..)));
    assert_eq!(booted.ends(), Some(1));
    UnixStream::connect(&socket).expect_err("QEMU has outlived the command");
    let log = std::fs::read_to_string(log).expect("the copy of its console");
    assert!(log.contains("Run /init as init process") && !log.contains("step=network"), "{log}");
}

/// A disk that is moved to a machine of other CPUs: its node's kernel needs other arguments, which it gets by one kexec, and from then on by
/// GRUB.
#[test]
fn a_disk_in_another_machine_needs_one_kexec() {
    let setup = Setup::new(Firmware::Bios, Start::Direct).shape(1, 2, 1);
    let tuning = "tuning: {housekeeping: {coresPerNumaNode: 1}, isolation: balanced}\n";
    let server = served(&setup, &NodeYaml::new("node-1").with(tuning));
    let booted = |guest: &Guest| {
        let found = guest.findings(INSTALL);
        guest.ended(BOOT);
        let line = found["texts"]["/proc/cmdline"].as_str().unwrap_or_default().to_owned();
        let isolated = line.split(' ').find(|argument| argument.starts_with("nohz_full=")).map(str::to_owned);
        (isolated.unwrap_or(line), guest.kernels())
    };
    let installed = Guest::start(&setup, Some(&server));
    assert_eq!(booted(&installed), ("nohz_full=1".to_owned(), 2));
    let moved = setup.again(Start::Disk).shape(1, 3, 1);
    for kernels in [2, 1] {
        assert_eq!(booted(&Guest::start(&moved, None)), ("nohz_full=1-2".to_owned(), kernels));
    }
}
