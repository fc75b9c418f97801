//! {BIOS, UEFI} × {PXE, USB, kernel and initramfs given directly}: real Debian installs itself, is entered by one
//! kexec, is as configured, and boots from its disk again without a network. One of them is then told another config; one has two cards
//! in a bond.

use serde_json::Value;
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;
use support::session::{self, Session};
use support::ssh::{self, Key};

/// Emulated on two busy cores; a machine that is stuck is ended here.
const INSTALL: Duration = Duration::from_secs(600);
const BOOT: Duration = Duration::from_secs(300);
const BLESSED: &str = "step=bless state=ok";

fn config(key: &Key) -> String {
    with_tuning(key, "isolation: balanced, sysctls: {vm.swappiness: '7'}")
}

fn with_tuning(key: &Key, more: &str) -> String {
    let tuning = format!("tuning: {{housekeeping: {{cpus: '0'}}, {more}}}\n");
    NodeYaml::new("node-1").with(&session::user(key)).with(&tuning).text()
}

/// What the config says must be what the node is.
fn check_node(key: &Key, port: u16) {
    let node = Session::new(key, port);
    let say = |command: &str| node.say(command);
    let cmdline = say("cat /proc/cmdline");
    assert!(cmdline.contains("isolcpus=managed_irq,1") && cmdline.contains("nohz_full=1"), "{cmdline}");
    assert_eq!(say("cat /sys/devices/system/cpu/nohz_full").trim(), "1");
    assert_eq!(say("hostname").trim(), "node-1");
    assert_eq!(say("cat /proc/sys/vm/swappiness").trim(), "7");
    for slice in ["init.scope", "system.slice", "user.slice"] {
        assert_eq!(say(&format!("cat /sys/fs/cgroup/{slice}/cpuset.cpus.effective")).trim(), "0", "{slice}");
    }
    assert_eq!(say("sudo -n id -u").trim(), "0");
    assert_eq!(say("systemctl --failed --no-legend --plain").trim(), "");
    // The config holds keys and, later, tokens: nobody but root reads it.
    assert!(!node.run("cat /var/lib/tatara/config.yaml").ok, "everybody reads the config");
    refuse_others(key, port);
}

fn refuse_others(key: &Key, port: u16) {
    let root = key.login("root", port, "true");
    assert!(!root.ok && root.err.contains("Permission denied"), "root: {}", root.err);
    let password = ssh::without_key(session::USER, port);
    // The refusal lists what would be taken: a key and nothing else.
    assert!(password.err.contains("Permission denied (publickey)."), "password: {}", password.err);
}

fn state(node: &Session<'_>) -> (String, String) {
    let etc = node.say("sudo find /etc -xdev -type f -exec sha256sum {} + | sort");
    assert!(etc.contains("  /etc/passwd\n"), "that is not all of /etc: {etc}");
    (node.say("cat /etc/machine-id"), etc)
}

/// A node that has booted from its disk alone.
struct Booted {
    key: Key,
    server: Server,
    setup: Setup,
    guest: Guest,
}

fn install_and_boot(firmware: Firmware, start: Start) -> Booted {
    installed(Setup::new(firmware, start).ssh(), "")
}

/// A machine with this beside in its config.
fn installed(setup: Setup, more: &str) -> Booted {
    let key = Key::generate();
    let server = Server::start(&release::debian(), &["console=ttyS0"]);
    server.publish(&setup.mac(), &(config(&key) + more));

    // `-no-reboot` is on: a second pass through the firmware would end the machine before it is blessed.
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", INSTALL);
    guest.expect(BLESSED, BOOT);
    assert_eq!(guest.kernels(), 2, "one kernel that installs, one kexec into the node's");
    check_node(&key, guest.ssh_port());
    let node = Session::new(&key, guest.ssh_port());
    let before = state(&node);
    let _ = node.say("sudo touch /etc/drift");
    node.power_off();
    guest.ended(BOOT);

    let guest = Guest::start(&setup.again(Start::Disk), None);
    guest.expect(BLESSED, BOOT);
    assert_eq!(guest.kernels(), 1, "a boot from disk needs no kexec");
    assert!(guest.never("step=network"), "a boot from disk needs no network:\n{}", guest.tail());
    check_node(&key, guest.ssh_port());
    assert_eq!(
        before,
        state(&Session::new(&key, guest.ssh_port())),
        "/etc or the machine id changed over a reboot"
    );
    Booted { key, server, setup, guest }
}

/// The node powers itself off, and boots from its disk with nobody to ask.
fn boot_alone(key: &Key, setup: &Setup, guest: Guest) -> Guest {
    Session::new(key, guest.ssh_port()).power_off();
    guest.ended(BOOT);
    // Why it did not ask, if it did not.
    println!("{}", guest.tail());
    drop(guest);
    let guest = Guest::start(&setup.again(Start::Disk), None);
    guest.expect(BLESSED, BOOT);
    assert!(guest.never("step=network"), "a boot from disk needs no network:\n{}", guest.tail());
    guest
}

/// An edited config and a plain way down are all that a node needs which boots from its disk.
fn an_edit_reaches_the_next_boot(booted: Booted) {
    let Booted { key, server, setup, guest } = booted;
    let session = Session::new(&key, guest.ssh_port());
    let file = format!("{}.yaml", setup.mac());
    let asked = || server.log().iter().filter(|line| line.contains(&file)).count();
    let before = asked();
    // Other isolation, too: the new arguments take one kexec, and then GRUB has them.
    server.publish(&setup.mac(), &with_tuning(&key, "isolation: static, sysctls: {vm.swappiness: '11'}"));
    let guest = boot_alone(&key, &setup, guest);
    assert!(asked() > before, "nobody asked on the way down: {:?}", server.log());
    assert_eq!(guest.kernels(), 2, "the arguments have changed:\n{}", guest.tail());
    assert_eq!(session.say("cat /proc/sys/vm/swappiness").trim(), "11");
    let status = session.node("status");
    assert_eq!(status["staged"]["waiting"], Value::Null, "{status}");
    assert!(!status["degraded"].to_string().contains("staged"), "{status}");
    assert!(!session.run("sudo test -e /var/lib/tatara/staged.json").ok, "it was accepted");

    // What is wrong with the next one is said while the node runs, and no boot is held up by it.
    let wrong = with_tuning(&key, "isolation: static, sysctl: {vm.swappiness: '12'}");
    let line = wrong.lines().position(|line| line.starts_with("tuning")).map_or(0, |index| index + 1);
    server.publish(&setup.mac(), &wrong);
    let staged = session.run("sudo tatara-node stage");
    assert!(!staged.ok && staged.err.contains("E-CONFIG-INVALID"), "{}{}", staged.out, staged.err);
    let refusal = |text: &str| text.contains(&format!("{file}:{line}:")) && text.contains("`sysctls`");
    assert!(refusal(&staged.err), "{}", staged.err);
    let status = session.node("status");
    assert!(refusal(&status["degraded"].to_string()), "{status}");

    // What only the root can tell, PID 1 finds before it accepts: a file in the place of a directory.
    let misfit = with_tuning(&key, "isolation: static, sysctls: {vm.swappiness: '13'}")
        + "files: [{path: /etc/profile.d, content: none}]\n";
    server.publish(&setup.mac(), &misfit);
    let guest = boot_alone(&key, &setup, guest);
    assert!(!guest.never("the staged config is not used: E-RENDER"), "{}", guest.tail());
    assert_eq!(guest.kernels(), 1, "GRUB has the arguments:\n{}", guest.tail());
    assert_eq!(session.say("cat /proc/sys/vm/swappiness").trim(), "11");
    let status = session.node("status");
    assert!(status["degraded"].to_string().contains("/etc/profile.d"), "{status}");
}

#[test]
fn bios_pxe() {
    install_and_boot(Firmware::Bios, Start::Pxe);
}

#[test]
fn bios_usb() {
    install_and_boot(Firmware::Bios, Start::Usb);
}

#[test]
fn bios_direct() {
    an_edit_reaches_the_next_boot(install_and_boot(Firmware::Bios, Start::Direct));
}

#[test]
fn uefi_pxe() {
    install_and_boot(Firmware::Uefi, Start::Pxe);
}

#[test]
fn uefi_usb() {
    install_and_boot(Firmware::Uefi, Start::Usb);
}

/// The machine's only way to anybody is a bond of its two cards: the installer's, and the node's.
#[test]
fn uefi_direct() {
    const MACS: [&str; 2] = ["52:54:00:12:34:56", "52:54:00:12:34:57"];
    let setup = Setup::new(Firmware::Uefi, Start::Direct).ssh().segment(&MACS);
    let setup = setup.kernel_arg("bond=bond0:eth0,eth1:mode=active-backup,miimon=100");
    let network = format!(
        "network:\n  interfaces:\n    - {{name: lan0, match: {{mac: '{}'}}}}\n    - {{name: lan1, match: {{mac: '{}'}}}}\n    \
         - {{name: bond0, dhcp4: true, bond: {{members: [lan0, lan1], mode: active-backup}}}}\n",
        MACS[0], MACS[1]
    );
    let Booted { key, guest, .. } = installed(setup, &network);
    let node = Session::new(&key, guest.ssh_port());
    let bond = node.say("cat /proc/net/bonding/bond0");
    assert!(bond.contains("(active-backup)") && bond.contains("MII Polling Interval (ms): 100"), "{bond}");
    for mac in MACS {
        assert!(bond.contains(&format!("Permanent HW addr: {mac}")), "{bond}");
    }
    // What a DHCP server knows the machine by since its install.
    assert_eq!(node.say("cat /sys/class/net/bond0/address").trim(), MACS[0]);
    // The session goes on over whichever card has its cable.
    for cable in 0..MACS.len() {
        guest.plug(cable, false);
        wait_for_members(&node, 1);
        guest.plug(cable, true);
        wait_for_members(&node, MACS.len());
    }
}

/// Waits until so many members of the bond have a carrier; the bond itself has one, too.
fn wait_for_members(node: &Session<'_>, up: usize) {
    let lines = "grep -c 'MII Status: up' /proc/net/bonding/bond0";
    let wait = format!("until [ \\$({lines}) = {} ]; do sleep 0.1; done", up + 1);
    let _ = node.say(&format!("timeout 60 sh -c \"{wait}\""));
}
