//! One real Debian on two machines: cores of two threads, then two NUMA nodes. What the config asks for is derived from each
//! machine, in force before anything is started, verified by the node itself, and measured.

use serde_json::Value;
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;
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

struct Login<'a> {
    key: &'a Key,
    port: u16,
}

impl Login<'_> {
    /// Standard output of a command that ends with success.
    fn say(&self, command: &str) -> String {
        let login = self.key.login("alice", self.port, command);
        assert!(login.ok, "`{command}`: {}{}", login.out, login.err);
        login.out
    }

    /// The answer of `tatara-node`, which may be that something differs.
    fn node(&self, command: &str) -> Value {
        let login = self.key.login("alice", self.port, &format!("sudo tatara-node {command} --json"));
        serde_json::from_str(&login.out)
            .unwrap_or_else(|e| panic!("{command}: {e}: {}{}", login.out, login.err))
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Every point is as wanted, and there are as many as there must be.
fn check_verified(login: &Login<'_>, housekeeping: &str, isolated: &str) -> Value {
    let verdict = login.node("tuning verify");
    assert_eq!(verdict["differences"], Value::Array(vec![]), "{verdict:#}");
    assert_eq!((&verdict["housekeeping"], &verdict["isolated"]), (&housekeeping.into(), &isolated.into()));
    let points = verdict["points"].as_u64().unwrap_or(0);
    assert!(points > 40, "only {points} points were compared: {verdict:#}");
    assert_eq!(login.say("cat /sys/devices/system/cpu/nohz_full").trim(), isolated);
    // GRUB's own argument is nobody's; any other would be one of ours that this kernel does not know.
    let unknown = login.say("sudo dmesg | grep -o 'Unknown kernel command line parameters.*' || true");
    let quoted = unknown.split('"').nth(1).unwrap_or_default();
    let others: Vec<&str> =
        quoted.split(' ').filter(|word| !word.is_empty() && !word.starts_with("BOOT_IMAGE=")).collect();
    assert_eq!(others, [""; 0], "{unknown}");
    let status = login.node("status");
    assert_eq!(status["degraded"], Value::Array(vec![]), "{status:#}");
    assert_eq!(status["tuning"]["housekeeping"], housekeeping, "{status:#}");
    // Set at the boot by the unit, before anything that it could disturb.
    let metrics = login.say("cat /run/tatara-metrics/pin.prom");
    assert!(metrics.contains("tatara_pin_points{result=\"wrong\"} 0\n"), "{metrics}");
    verdict
}

/// The isolated CPUs keep still under a busy loop, and no device interrupts them but those that the kernel keeps.
fn check_quiet(login: &Login<'_>) {
    let verdict = login.node("tuning verify --noise 10s --svg /run/noise.svg");
    let kept: Vec<&str> =
        list(&verdict, "keptByKernel").iter().filter_map(|point| point["name"].as_str()).collect();
    let cpus = list(&verdict["noise"], "cpus");
    let tick = |cpu: &Value| cpu["tick"].as_f64().unwrap_or(f64::NAN);
    let busy = cpus.iter().find(|cpu| cpu["isolated"] == false).map_or(f64::NAN, tick);
    assert!(busy > 100.0, "the housekeeping CPU has no tick: {verdict:#}");
    let mut isolated = 0;
    for cpu in cpus.iter().filter(|cpu| cpu["isolated"] == true) {
        isolated += 1;
        let log = || login.say("sudo dmesg | grep -iE 'tsc|clocksource|sched_clock|nohz|rcu' | tail -30");
        assert!(tick(cpu) < TICK_SHARE * busy, "CPU {} ticks: {verdict:#}\n{}", cpu["cpu"], log());
        for irq in cpu["irqs"].as_object().into_iter().flat_map(|irqs| irqs.keys()) {
            let named = kept.iter().any(|name| name.starts_with(&format!("irq {irq} ")));
            assert!(named, "irq {irq} on CPU {}: {verdict:#}", cpu["cpu"]);
        }
    }
    assert_eq!(isolated, 2, "{verdict:#}");
    let svg = login.say("sudo cat /run/noise.svg");
    assert!(svg.starts_with("<svg ") && svg.contains("CPU 3 isolated"), "{svg}");
}

/// Waits for a card in the running machine, then a second, and prints where its interrupts go.
fn watch(mac: &str) -> String {
    format!(
        "for i in $(seq 900); do \
           nic=$(grep -l {mac} /sys/class/net/*/address) && break; sleep 0.1; \
         done; sleep 1; \
         device=$(readlink -f ${{nic%/address}}/device/..); \
         for irq in $(ls $device/msi_irqs); do \
           [ -z \"$(find /proc/irq/$irq -mindepth 1 -type d)\" ] || echo irq $irq $(cat /proc/irq/$irq/smp_affinity_list); \
         done"
    )
}

fn check_late_card(guest: &Guest, login: &Login<'_>) {
    guest.plug_nic(LATE_MAC).expect("a card in the free slot");
    let irqs = login.say(&watch(LATE_MAC));
    assert!(irqs.lines().count() >= 2, "the card has no interrupts: {irqs}");
    for line in irqs.lines() {
        let cpus = line.rsplit(' ').next().unwrap_or_default();
        assert!(["0", "1", "0-1"].contains(&cpus), "{line}");
    }
}

/// A process of a login stays in housekeeping; one that root puts on an isolated CPU runs there.
fn check_processes(login: &Login<'_>) {
    assert_eq!(login.say("grep Cpus_allowed_list /proc/self/status").split_whitespace().last(), Some("0-1"));
    assert!(!login.key.login("alice", login.port, "taskset -c 3 true").ok, "a login may leave its slice");
    // The root of the tree has all CPUs; pods get theirs below it.
    let pinned = "sudo sh -c 'echo $$ >/sys/fs/cgroup/cgroup.procs && exec taskset -c 3 cut -d\" \" -f39 /proc/self/stat'";
    assert_eq!(login.say(pinned).trim(), "3");
}

#[test]
fn derived_verified_and_quiet() {
    let key = Key::generate();
    let server = Server::start(&release::debian(), &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Bios, Start::Direct).ssh().shape(1, 2, 2).free_slot();
    let config = NodeYaml::new("node-1")
        .with(&format!("users:\n  - {{name: alice, keys: ['{}'], sudo: true}}\n", key.public()))
        .with(&format!("tuning: {{housekeeping: {{coresPerNumaNode: 1}}, isolation: balanced, kernelArguments: [{CLOCK}]}}\n"));
    server.publish(&setup.mac(), &config.text());

    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", INSTALL);
    guest.expect(BLESSED, BOOT);
    let login = Login { key: &key, port: guest.ssh_port() };
    check_verified(&login, "0-1", "2-3");
    check_processes(&login);
    check_quiet(&login);
    check_late_card(&guest, &login);
    check_verified(&login, "0-1", "2-3");
    let _ = key.login("alice", guest.ssh_port(), "sudo poweroff");
    guest.ended(BOOT);

    // The same disk in another machine: the plan is another, and its arguments come by one kexec.
    let guest = Guest::start(&setup.again(Start::Disk).memory_mib(2048).shape(2, 17, 1), None);
    guest.expect(BLESSED, BOOT);
    assert_eq!(guest.kernels(), 2, "GRUB's kernel, and one kexec for this machine's arguments");
    let login = Login { key: &key, port: guest.ssh_port() };
    check_verified(&login, "0,17", "1-16,18-33");
    assert_eq!(login.say("cat /proc/irq/default_smp_affinity").trim(), "0,00020001");
}
