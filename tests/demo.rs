//! `make demo`: an empty machine boots by PXE under UEFI, installs itself, joins a real cluster, and runs a pod there.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::cluster::worker::{self, Stage, pod};
use support::guest::{Firmware, Guest, Start};
use support::server::word;
use support::ssh::Key;
use support::steps::{self, Timed, seconds};
use support::{lan, release, session};

/// Emulated, on two cores, the whole takes a few minutes.
const STEP: Duration = Duration::from_secs(900);
/// OVMF's line when it starts what it boots.
const FIRMWARE: &str = "BdsDxe: starting ";
const WORDS: &str = "hello from a pod";

fn main() -> Result<()> {
    let output = PathBuf::from(std::env::args().nth(1).context("usage: demo OUTPUT")?);
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    say("building the release: Debian 13 and Kubernetes 1.20.2 (kept in TATARA_CACHE)");
    say("the first run builds Kubernetes from Debian's source package: about nine minutes");
    let release = release::node();
    lan::alone(move || demo(&output, &release))
}

fn demo(output: &Path, release: &Path) -> Result<()> {
    say(
        "starting a control plane, in a network namespace: etcd, kube-apiserver, controller-manager, scheduler",
    );
    let machine = worker::machine(Firmware::Uefi, Start::Pxe).kept_in(output);
    let stage = Stage::new(release, machine, Key::in_directory(output));
    fs::write(output.join("node.yaml"), stage.config.text()).context("cannot write node.yaml")?;

    say("powering on a machine with an empty disk, UEFI, PXE; its console is in console.log");
    let power_on = Instant::now();
    let guest = Guest::start(&stage.setup, Some(&stage.server));
    guest.expect("step=record state=ok", STEP);
    say("installed; the node's kernel starts by kexec");
    guest.expect("step=joined state=ok", STEP);
    say("joined the cluster");
    let node = stage.node();
    let _ = node.ready(None);
    let ready = Instant::now();
    say("Ready; running a pod");
    stage.cluster.apply(&pod("hello", &["say", WORDS], &json!({})));
    let log = node.logs("hello", &format!("{WORDS}\n"));
    let ran = Instant::now();
    guest.printed("step=bless state=ok", STEP);

    let overview = ["get", "nodes,pods", "--output=wide"];
    shown(&format!("kubectl {}", overview.join(" ")), &stage.cluster.say(&overview));
    shown("kubectl logs hello", &log);
    let exec = ["exec", "hello", "--", "/tatara-pod", "cpus"];
    shown(&format!("kubectl {}", exec.join(" ")), &stage.cluster.say(&exec));
    let status = "sudo tatara-node status; sudo tatara-node timeline";
    shown(&format!("ssh {}@{} '{status}'", session::USER, worker::ADDRESS), &node.ssh(status));
    let svg = node.ssh("sudo tatara-node timeline --svg /run/timeline.svg && cat /run/timeline.svg");
    ensure!(svg.contains("<svg"), "no timeline: {svg}");
    fs::write(output.join("timeline.svg"), svg).context("cannot write timeline.svg")?;

    let result = result(&guest, &stage, power_on, [ready, ran])?;
    fs::write(output.join("result.json"), serde_json::to_string_pretty(&result)?)
        .context("cannot write result.json")?;
    node.power_off();
    guest.ended(STEP);
    fs::write(output.join("console.log"), guest.transcript()).context("cannot write console.log")?;
    farewell(output, &result);
    Ok(())
}

fn say(text: &str) {
    println!("demo: {text}");
}

/// A command and what it printed.
fn shown(command: &str, output: &str) {
    println!("$ {command}\n{}\n", output.trim_end());
}

fn result(guest: &Guest, stage: &Stage, power_on: Instant, [ready, ran]: [Instant; 2]) -> Result<Value> {
    let console = guest.console();
    let mut steps = steps::of(console, power_on)?;
    let joined = steps.iter().find(|step| step.name == "joined").and_then(|step| step.end_s);
    let (ready, ran) = (seconds(power_on, ready), seconds(power_on, ran));
    let multi_user = steps::kernel_start(console, power_on)? + stage.node().multi_user_s();
    let handed_over = steps.iter().rev().find(|step| step.name == "switch-root").and_then(|step| step.end_s);
    steps.push(Timed::new("systemd", handed_over.context("systemd was not started")?, multi_user));
    steps.push(Timed::new("ready", joined.context("no join on the console")?, ready));
    steps.push(Timed::new("pod", ready, ran));
    steps.sort_by(|a, b| a.begin_s.total_cmp(&b.begin_s));
    let fetched: u64 =
        stage.server.log().iter().filter_map(|line| word(line, "bytes")?.parse::<u64>().ok()).sum();
    let lowest = console.all("lowest free memory");
    let lowest = lowest.last().and_then(|(_, line)| word(line, "mib")?.parse::<u64>().ok());
    let firmware_boots = console.all(FIRMWARE).len();
    // A second one would have ended QEMU, which runs with -no-reboot.
    ensure!(firmware_boots == 1, "the firmware has booted {firmware_boots} times");
    Ok(json!({
        "outcome": "ok",
        "steps": steps.iter().map(Timed::json).collect::<Vec<_>>(),
        "firmware_boots": firmware_boots,
        "kexecs": guest.kernels() - 1,
        "bytes_fetched": fetched,
        "bytes_written": guest.bytes_written()?,
        "memory_low_water_mib": lowest.context("the machine did not say how much memory was left")?,
        "power_on_to_multi_user_s": multi_user,
        "power_on_to_ready_s": ready,
    }))
}

fn farewell(output: &Path, result: &Value) {
    let dir = output.display();
    let tool = support::tool();
    let tool = tool.display();
    let whole = |name: &str| result[name].as_f64().unwrap_or(f64::NAN).round();
    println!(
        "demo: power-on to multi-user in {} s, to Ready in {} s (emulated), with {} boot of the firmware and {} kexec",
        whole("power_on_to_multi_user_s"),
        whole("power_on_to_ready_s"),
        result["firmware_boots"],
        result["kexecs"],
    );
    println!("demo: {dir}/result.json, {dir}/timeline.svg, {dir}/console.log");
    println!("demo: boot the installed disk again, and log in:");
    println!(
        "  {tool} vm run --firmware uefi --boot disk --memory 2048 --disk {dir}/disk0.raw --ssh-port 2222"
    );
    println!(
        "  ssh -i {dir}/key -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null alice@127.0.0.1"
    );
    println!(
        "demo: the control plane has ended with the demo: the kubelet goes on asking for it, and starts no pods until it is back"
    );
    println!("demo: the same disk boots under BIOS: `--firmware bios`");
    println!("demo: a machine that starts from a USB stick or your own network: docs/usb.md, docs/pxe.md");
}
