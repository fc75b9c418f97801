//! `make demo`: a machine that installs itself by PXE under UEFI, boots its node and answers over SSH.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::server::{Server, word};
use support::ssh::Key;
use support::{console, release};

/// Emulated, on two cores, the whole takes about two minutes.
const STEP: Duration = Duration::from_secs(900);
const MULTI_USER: &str = "Reached target multi-user.target";

fn main() -> Result<()> {
    let output = PathBuf::from(std::env::args().nth(1).context("usage: demo OUTPUT")?);
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    say("building the release (the Debian root is cached, see TATARA_CACHE)");
    let release = release::debian();

    let key = Key::in_directory(&output);
    let server = Server::start(&release, &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Uefi, Start::Pxe).kept_in(&output).ssh();
    let config = NodeYaml::new("demo")
        .with(&format!("users:\n  - {{name: demo, keys: ['{}'], sudo: true}}\n", key.public()))
        .with("tuning: {housekeeping: {cpus: '0'}, isolation: balanced}\n")
        .text();
    server.publish(&setup.mac(), &config);
    fs::write(output.join("node.yaml"), &config).context("cannot write node.yaml")?;

    say("powering on a machine with an empty disk, UEFI, PXE; its console is in console.log");
    let power_on = Instant::now();
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", STEP);
    say("installed; the node's kernel starts by kexec");
    guest.expect(MULTI_USER, STEP);
    let multi_user = power_on.elapsed().as_secs_f64();
    guest.expect("step=bless state=ok", STEP);

    let login = key.login("demo", guest.ssh_port(), "sudo tatara-node status; sudo tatara-node timeline");
    ensure!(login.ok, "cannot log in: {}", login.err);
    println!("{}", login.out);
    let svg = key.login(
        "demo",
        guest.ssh_port(),
        "sudo tatara-node timeline --svg /run/timeline.svg && cat /run/timeline.svg",
    );
    ensure!(svg.ok && svg.out.contains("<svg"), "no timeline: {}", svg.err);
    fs::write(output.join("timeline.svg"), svg.out).context("cannot write timeline.svg")?;

    let result = result(&guest, &server, power_on, multi_user)?;
    fs::write(output.join("result.json"), serde_json::to_string_pretty(&result)?)
        .context("cannot write result.json")?;
    fs::write(output.join("console.log"), guest.transcript()).context("cannot write console.log")?;
    // The connection breaks off with the machine: what matters is that it ends.
    let _ = key.login("demo", guest.ssh_port(), "sudo poweroff");
    guest.ended(STEP);
    farewell(&output, multi_user);
    Ok(())
}

fn say(text: &str) {
    println!("demo: {text}");
}

/// Seconds since power-on at which a console line came.
fn seconds(power_on: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(power_on).as_secs_f64()
}

fn result(guest: &Guest, server: &Server, power_on: Instant, multi_user: f64) -> Result<Value> {
    let kernels = guest.console().all("] Linux version ");
    ensure!(!kernels.is_empty(), "no kernel was started");
    let mut steps =
        vec![json!({"name": "firmware", "begin_s": 0.0, "end_s": seconds(power_on, kernels[0].0)})];
    steps.extend(steps_of(guest.console(), power_on)?);
    let switch_root = guest.console().all("step=switch-root state=ok");
    let systemd = switch_root.last().map_or(0.0, |(at, _)| seconds(power_on, *at));
    steps.push(json!({"name": "systemd", "begin_s": systemd, "end_s": multi_user}));
    let fetched: u64 = server.log().iter().filter_map(|line| word(line, "bytes")?.parse::<u64>().ok()).sum();
    let lowest = guest.console().all("lowest free memory");
    let lowest = lowest.last().and_then(|(_, line)| word(line, "mib")?.parse::<u64>().ok());
    Ok(json!({
        "outcome": "ok",
        "steps": steps,
        // QEMU runs with -no-reboot: a second pass through the firmware would have ended it.
        "firmware_boots": 1,
        "kexecs": kernels.len() - 1,
        "bytes_fetched": fetched,
        "bytes_written": guest.bytes_written()?,
        "memory_low_water_mib": lowest.context("the machine did not say how much memory was left")?,
        "power_on_to_multi_user_s": multi_user,
    }))
}

/// The machine's own steps, by the console lines and when they came.
fn steps_of(console: &console::Console, power_on: Instant) -> Result<Vec<Value>> {
    let mut steps: Vec<Value> = Vec::new();
    for (at, line) in console.all("tatara: step=") {
        let (Some(name), Some(state)) = (word(&line, "step"), word(&line, "state")) else { continue };
        let at = seconds(power_on, at);
        if state == "begin" {
            steps.push(json!({"name": name, "begin_s": at, "end_s": null}));
        } else if let Some(step) = steps.iter_mut().rev().find(|step| step["name"] == name) {
            ensure!(state == "ok", "step {name} failed: {line}");
            step["end_s"] = json!(at);
        }
    }
    Ok(steps)
}

fn farewell(output: &Path, multi_user: f64) {
    let dir = output.display();
    let tool = support::tool();
    let tool = tool.display();
    println!(
        "demo: power-on to multi-user in {multi_user:.0} s (emulated); {dir}/result.json, {dir}/timeline.svg"
    );
    println!("demo: boot the installed disk again, and log in:");
    println!("  {tool} vm run --firmware uefi --boot disk --disk {dir}/disk0.raw --ssh-port 2222");
    println!(
        "  ssh -i {dir}/key -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null demo@127.0.0.1"
    );
    println!("demo: the same with BIOS or from a USB stick:");
    println!("  {tool} vm run --help");
}
