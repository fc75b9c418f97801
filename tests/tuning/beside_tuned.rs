//! One root with Debian's tuned in it, on one machine: first ours, `isolation: static` and a gate that stays shut; then tuned with
//! its profile cpu-partitioning and the same isolated CPUs. The same command compares both with the same record, point by point.

use super::{BLESSED, BOOT, CLOCK, INSTALL, check_points, gate, list};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;
use support::session::{self, Session};
use support::ssh::Key;
use support::tuned;

/// tuned is in the root, and must not run where ours is looked at.
const WITHOUT_TUNED: &str = "systemd.mask=tuned.service";

/// Where the table of this comparison is.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tuning.md");
const BEGIN: &str =
    "<!-- Generated: `TATARA_UPDATE_DOCS=1 cargo test -p tatara-tests --test tuning beside_tuned` -->\n";
const END: &str = "<!-- End of what is generated. -->\n";

/// A file that the profile sets (tuned.conf of cpu-partitioning, network-latency and latency-performance in Debian 13), its value
/// there, and why ours leaves it alone, where it does.
const SETTINGS: [(&str, &str, Option<&str>); 14] = [
    ("/proc/sys/kernel/numa_balancing", "0", None),
    ("/proc/sys/kernel/hung_task_timeout_secs", "600", None),
    ("/proc/sys/kernel/nmi_watchdog", "0", None),
    ("/proc/sys/vm/stat_interval", "10", None),
    ("/proc/sys/vm/swappiness", "10", None),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", None),
    ("/sys/kernel/mm/ksm/run", "0", None),
    (
        "/proc/sys/kernel/timer_migration",
        "0",
        Some("pods are pinned while the node runs: timers must be able to leave their CPUs"),
    ),
    ("/proc/sys/net/core/busy_read", "50", Some("busy polling takes the housekeeping CPUs' time")),
    ("/proc/sys/net/core/busy_poll", "50", Some("the same")),
    ("/proc/sys/net/ipv4/tcp_fastopen", "3", Some("no matter of isolation")),
    ("/proc/sys/vm/dirty_ratio", "10", Some("no matter of isolation")),
    ("/proc/sys/vm/dirty_background_ratio", "3", Some("no matter of isolation")),
    (
        "/sys/devices/system/machinecheck/machinecheck0/ignore_ce",
        "1",
        Some("corrected memory errors would not be reported any more"),
    ),
];

fn paths() -> Vec<&'static str> {
    SETTINGS.iter().map(|(path, ..)| *path).collect()
}

#[test]
fn static_and_beside_tuned() {
    let key = Key::generate();
    let server = Server::start(&release::with_tuned(), &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Bios, Start::Direct).ssh().shape(1, 2, 2);
    let tuning = format!(
        "tuning:\n\
         \x20 housekeeping: {{coresPerNumaNode: 1}}\n\
         \x20 isolation: static\n\
         \x20 kernelArguments: [{CLOCK}, {WITHOUT_TUNED}]\n\
         \x20 accept: {{seconds: 2, maxGapUs: 0}}\n"
    );
    let config = NodeYaml::new("node-1").with(&session::user(&key)).with(&tuning);
    server.publish(&setup.mac(), &config.text());
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", INSTALL);
    guest.expect("tatara: E-CPU-NOISE: CPU ", BOOT);
    guest.expect("tatara: hint: ", BOOT);
    guest.expect(BLESSED, BOOT);
    let node = Session::new(&key, guest.ssh_port());
    check_points(&node, "0-1", tuned::ISOLATED);
    check_shut(&node);
    let kept = kept(&node);
    let record = node.say("cat /etc/tatara/tuning.json");
    let ours = node.lines(&paths());
    node.power_off();
    guest.ended(BOOT);

    let mut config = NodeYaml::new("node-1").with(&session::user(&key)).with(&tuned::files());
    config.serial = 2;
    server.publish(&setup.mac(), &config.text());
    let setup = tuned::BOOT_ARGUMENTS.into_iter().fold(setup, Setup::kernel_arg);
    let guest = Guest::start(&setup, Some(&server));
    guest.expect(BLESSED, BOOT);
    assert_eq!(guest.kernels(), 1, "tuned's arguments are those of the first kernel");
    let node = Session::new(&key, guest.ssh_port());
    tuned::applied(&node, BOOT);
    node.write("/run/wanted.json", &record);
    let verdict = node.node("tuning verify --record /run/wanted.json");
    let theirs = node.lines(&paths());
    check_settings(&ours, &theirs);
    check_document(&missed(&verdict, &kept), verdict["points"].as_u64().unwrap_or(0), &ours);
}

/// The loop is never away for less than nothing: every isolated CPU is over its limit, and what stands behind the gate stays out.
fn check_shut(node: &Session<'_>) {
    let status = node.node("status");
    let degraded: Vec<&str> = list(&status, "degraded").iter().filter_map(Value::as_str).collect();
    for cpu in [2, 3] {
        let named = format!("E-CPU-NOISE: CPU {cpu}: ");
        assert!(degraded.iter().any(|reason| reason.starts_with(&named)), "{status:#}");
    }
    assert_eq!(status["tuning"]["accept"]["accepted"], false, "{status:#}");
    assert!(gate(node).contains("E-CPU-NOISE"), "the kubelet was not kept out by the gate");
}

/// What tuned reaches of its own settings is ours too, but for what is left alone with a reason.
fn check_settings(ours: &[String], theirs: &[String]) {
    assert_eq!((ours.len(), theirs.len()), (SETTINGS.len(), SETTINGS.len()), "{ours:?} {theirs:?}");
    for (((path, wanted, reason), ours), theirs) in SETTINGS.iter().zip(ours).zip(theirs) {
        let same = |value: &String| value.split_whitespace().eq(wanted.split_whitespace());
        assert!(same(theirs), "{path} is {theirs} under tuned, {wanted} in its profile");
        assert_eq!(same(ours), reason.is_none(), "{path} is {ours}, {wanted} with tuned");
    }
}

/// Interrupts that the kernel leaves where they are, whoever asks.
fn kept(node: &Session<'_>) -> Vec<String> {
    let verdict = node.node("tuning verify");
    let name = |point: &Value| point["name"].as_str().map(str::to_owned);
    list(&verdict, "keptByKernel").iter().filter_map(name).collect()
}

/// What of the record is not so under tuned, by topic. What tuned sets otherwise is in the other table; how the kernel's arguments are
/// written is ours to choose, and what they came to has points of its own.
fn missed(verdict: &Value, kept: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut missed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |point: &Value, key: &str| point[key].as_str().unwrap_or_default().to_owned();
    for point in list(verdict, "differences").iter().filter(|point| point["topic"] != "kernel-argument") {
        let (name, actual, wanted) = (text(point, "name"), text(point, "actual"), text(point, "wanted"));
        let chosen = format!("/proc/sys/{}", name.replace('.', "/"));
        if kept.contains(&name) || SETTINGS.iter().any(|(path, ..)| *path == chosen) {
            continue;
        }
        let actual = if actual.is_empty() { "empty" } else { &actual };
        missed
            .entry(text(point, "topic"))
            .or_default()
            .push(format!("`{name}` is {actual}, wanted {wanted}"));
    }
    assert!(!missed.is_empty(), "tuned reaches everything: {verdict:#}");
    missed
}

/// Every topic that tuned misses points of is in the document.
fn check_document(missed: &BTreeMap<String, Vec<String>>, points: u64, ours: &[String]) {
    let text = std::fs::read_to_string(DOCUMENT).expect("docs/tuning.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the table's begin");
    let (table, after) = rest.split_once(END).expect("the mark of the table's end");
    if std::env::var_os("TATARA_UPDATE_DOCS").is_some() {
        let written = format!("{before}{BEGIN}\n{}\n{END}{after}", tables(missed, points, ours));
        return std::fs::write(DOCUMENT, written).expect("docs/tuning.md");
    }
    for topic in missed.keys() {
        assert!(
            table.contains(&format!("| {topic} | ")),
            "docs/tuning.md does not have {topic}: {missed:#?}"
        );
    }
}

fn tables(missed: &BTreeMap<String, Vec<String>>, points: u64, ours: &[String]) -> String {
    let mut text =
        format!("Of {points} points tuned misses these:\n\n| topic | points | such as |\n|---|---|---|\n");
    for (topic, points) in missed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {topic} | {} | {} |", points.len(), points[0]);
    }
    text.push_str("\nAnd this the profile sets and ours does not:\n\n| what | tuned | ours | why |\n|---|---|---|---|\n");
    for ((path, wanted, reason), ours) in SETTINGS.iter().zip(ours) {
        if let Some(reason) = reason {
            let _ = writeln!(text, "| `{path}` | {wanted} | {ours} | {reason} |");
        }
    }
    text
}
