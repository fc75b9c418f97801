//! One real Debian on two machines: cores of two threads, then two NUMA nodes. What the config asks for is derived from each
//! machine, in force before anything is started, verified by the node itself, and measured.

mod beside_tuned;

use serde_json::{Value, json};
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;
use support::session::{self, Session};
use support::ssh::Key;

/// Emulated on two busy cores; a machine that is stuck is ended here.
const INSTALL: Duration = Duration::from_secs(600);
const BOOT: Duration = Duration::from_secs(600);
const BLESSED: &str = "step=bless state=ok";

/// Of the card that is plugged into the running machine.
const LATE_MAC: &str = "52:54:00:12:34:99";

/// All emulated TSCs are the host's one clock. Where the host is busy, though, the kernel's watchdog takes them for unstable,
/// and CPUs whose clock is unstable keep their tick.
const CLOCK: &str = "tsc=reliable";

/// The node's own tick count under a busy loop, at most, as a share of a housekeeping CPU's.
const TICK_SHARE: f64 = 0.05;

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Every point is as wanted, and there are as many as there must be.
fn check_points(node: &Session<'_>, housekeeping: &str, isolated: &str) {
    let verdict = node.node("tuning verify");
    assert_eq!(verdict["differences"], json!([]), "{verdict:#}");
    assert_eq!((&verdict["housekeeping"], &verdict["isolated"]), (&housekeeping.into(), &isolated.into()));
    let points = verdict["points"].as_u64().unwrap_or(0);
    assert!(points > 40, "only {points} points were compared: {verdict:#}");
    assert_eq!(node.say("cat /sys/devices/system/cpu/nohz_full").trim(), isolated);
    // GRUB's own argument is nobody's; any other would be one of ours that this kernel does not know.
    let unknown = node.say("sudo dmesg | grep -o 'Unknown kernel command line parameters.*' || true");
    let quoted = unknown.split('"').nth(1).unwrap_or_default();
    let others: Vec<&str> =
        quoted.split(' ').filter(|word| !word.is_empty() && !word.starts_with("BOOT_IMAGE=")).collect();
    assert_eq!(others, [""; 0], "{unknown}");
}

/// The node says the same, and nothing is degraded.
fn check_verified(node: &Session<'_>, housekeeping: &str, isolated: &str) {
    check_points(node, housekeeping, isolated);
    let status = node.node("status");
    assert_eq!(status["degraded"], json!([]), "{status:#}");
    assert_eq!(status["tuning"]["housekeeping"], housekeeping, "{status:#}");
    // Set at the boot by the unit, before anything that it could disturb.
    let metrics = node.say("cat /run/tatara-metrics/pin.prom");
    assert!(metrics.contains("tatara_pin_points{result=\"wrong\"} 0\n"), "{metrics}");
}

/// The gate was open: it measured both isolated CPUs at the boot, and what stands behind it comes to its turn.
fn check_accepted(node: &Session<'_>) {
    let accept = node.node("status")["tuning"]["accept"].take();
    assert_eq!(accept["accepted"], true, "{accept:#}");
    let measured = list(&accept["noise"], "cpus").iter().filter(|cpu| cpu["isolated"] == true).count();
    assert_eq!(measured, 2, "{accept:#}");
    assert!(
        gate(node).contains("E-KUBELET-CONFIG"),
        "nothing else keeps the kubelet from starting: no cluster has configured it"
    );
}

/// The isolated CPUs keep still under a busy loop, and no device interrupts them but those that the kernel keeps.
fn check_quiet(node: &Session<'_>) {
    let verdict = node.node("tuning verify --noise 10s --svg /run/noise.svg");
    let kept: Vec<&str> =
        list(&verdict, "keptByKernel").iter().filter_map(|point| point["name"].as_str()).collect();
    let cpus = list(&verdict["noise"], "cpus");
    let tick = |cpu: &Value| cpu["tick"].as_f64().unwrap_or(f64::NAN);
    let busy = cpus.iter().find(|cpu| cpu["isolated"] == false).map_or(f64::NAN, tick);
    assert!(busy > 100.0, "the housekeeping CPU has no tick: {verdict:#}");
    let mut isolated = 0;
    for cpu in cpus.iter().filter(|cpu| cpu["isolated"] == true) {
        isolated += 1;
        let log = || node.say("sudo dmesg | grep -iE 'tsc|clocksource|sched_clock|nohz|rcu' | tail -30");
        assert!(tick(cpu) < TICK_SHARE * busy, "CPU {} ticks: {verdict:#}\n{}", cpu["cpu"], log());
        for irq in cpu["irqs"].as_object().into_iter().flat_map(|irqs| irqs.keys()) {
            let named = kept.iter().any(|name| name.starts_with(&format!("irq {irq} ")));
            assert!(named, "irq {irq} on CPU {}: {verdict:#}", cpu["cpu"]);
        }
    }
    assert_eq!(isolated, 2, "{verdict:#}");
    let svg = node.say("sudo cat /run/noise.svg");
    assert!(svg.starts_with("<svg ") && svg.contains("CPU 3 isolated"), "{svg}");
}

/// The CPUs that an interrupt of a new card may be on, as `smp_affinity_list` has them.
const HOUSEKEEPING: [&str; 3] = ["0", "1", "0-1"];

/// Waits for a card in the running machine, until udev is done with it, which gives it another name, and until its interrupts, of which
/// there are two at least, are where they belong: `tatara-node pin`, which udev starts, looks for 10 s. Prints where they are at last.
fn watch(mac: &str) -> String {
    format!(
        "for i in $(seq 900); do \
           grep -q {mac} /sys/class/net/*/address && break; sleep 0.1; \
         done; \
         udevadm settle --timeout=60; \
         nic=$(grep -l {mac} /sys/class/net/*/address); \
         device=$(readlink -f ${{nic%/address}}/device/..); \
         for i in $(seq 300); do \
           irqs=$(for irq in $(ls $device/msi_irqs); do \
             [ -z \"$(find /proc/irq/$irq -mindepth 1 -type d)\" ] || echo irq $irq $(cat /proc/irq/$irq/smp_affinity_list); \
           done); \
           [ $(echo \"$irqs\" | wc -l) -lt 2 ] || echo \"$irqs\" | grep -qvE ' ({housekeeping})$' || break; sleep 0.1; \
         done; echo \"$irqs\"",
        housekeeping = HOUSEKEEPING.join("|"),
    )
}

fn check_late_card(guest: &Guest, node: &Session<'_>) {
    // What moves the interrupts is to be what udev starts, not the look of every minute.
    let _ = node.say("sudo systemctl stop tatara-pin-again.timer");
    guest.plug_nic(LATE_MAC).expect("a card in the free slot");
    let irqs = node.say(&watch(LATE_MAC));
    assert!(irqs.lines().count() >= 2, "the card has no interrupts: {irqs}");
    for line in irqs.lines() {
        let cpus = line.rsplit(' ').next().unwrap_or_default();
        assert!(HOUSEKEEPING.contains(&cpus), "{line}");
    }
}

/// A process of a login stays in housekeeping; one that root puts on an isolated CPU runs there.
fn check_processes(node: &Session<'_>) {
    assert_eq!(node.say("grep Cpus_allowed_list /proc/self/status").split_whitespace().last(), Some("0-1"));
    assert!(!node.run("taskset -c 3 true").ok, "a login may leave its slice");
    // The root of the tree has all CPUs; pods get theirs below it.
    let pinned = "sudo sh -c 'echo $$ >/sys/fs/cgroup/cgroup.procs && exec taskset -c 3 cut -d\" \" -f39 /proc/self/stat'";
    assert_eq!(node.say(pinned).trim(), "3");
}

/// Why the kubelet of a node that has not joined may not start: its ExecStartPre looks at the gate first, as the join does.
fn gate(node: &Session<'_>) -> String {
    let login = node.run("sudo tatara-node kubelet");
    assert!(!login.ok, "the kubelet may start");
    login.err
}

#[test]
fn derived_verified_and_quiet() {
    let key = Key::generate();
    let server = Server::start(&release::debian(), &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Bios, Start::Direct).ssh().shape(1, 2, 2).free_slot();
    let config = NodeYaml::new("node-1").with(&session::user(&key)).with(&format!(
        "tuning:\n\
         \x20 housekeeping: {{coresPerNumaNode: 1}}\n\
         \x20 isolation: balanced\n\
         \x20 kernelArguments: [{CLOCK}]\n\
         \x20 accept: {{seconds: 2, maxTicksPerSecond: 50}}\n"
    ));
    server.publish(&setup.mac(), &config.text());

    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", INSTALL);
    guest.expect(BLESSED, BOOT);
    let node = Session::new(&key, guest.ssh_port());
    check_verified(&node, "0-1", "2-3");
    check_accepted(&node);
    check_processes(&node);
    check_quiet(&node);
    check_late_card(&guest, &node);
    check_verified(&node, "0-1", "2-3");
    node.power_off();
    guest.ended(BOOT);

    // The same disk in another machine: the plan is another, and its arguments come by one kexec.
    let guest = Guest::start(&setup.again(Start::Disk).memory_mib(2048).shape(2, 17, 1), None);
    guest.expect(BLESSED, BOOT);
    assert_eq!(guest.kernels(), 2, "GRUB's kernel, and one kexec for this machine's arguments");
    let node = Session::new(&key, guest.ssh_port());
    check_verified(&node, "0,17", "1-16,18-33");
    assert_eq!(node.say("cat /proc/irq/default_smp_affinity").trim(), "0,00020001");
}
