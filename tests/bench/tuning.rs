//! Isolated CPUs under a busy loop, on one machine of four CPUs: untouched, with ours, with Debian's tuned and its profile
//! cpu-partitioning; and how long either takes to set what it sets.

use crate::figures::{Figures, median};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::ops::Add as _;
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;
use support::session::{self, Session};
use support::ssh::Key;
use support::tuned;

const DEADLINE: Duration = Duration::from_secs(600);
const BLESSED: &str = "step=bless state=ok";
/// As tuned asks for: the emulated TSCs are the host's one clock.
const CLOCK: &str = "tsc=reliable";
/// tuned is in the root that all three boot.
const WITHOUT_TUNED: &str = "systemd.mask=tuned.service";
/// Times each is run; odd, for the median.
const RUNS: usize = 5;

/// One CPU's disturbances, the mean over the isolated ones.
struct Noise {
    ticks: f64,
    ipis: f64,
    devices: f64,
    longest_gap_us: f64,
    /// Ticks of an isolated CPU as a share of a housekeeping CPU's.
    share: f64,
}

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let key = Key::generate();
    let server = Server::start(&release::with_tuned(), &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Bios, Start::Direct).ssh().shape(1, 2, 2);
    let node = |serial: u64, more: &str| {
        let mut config = NodeYaml::new("bench").with(&session::user(&key)).with(more);
        config.serial = serial;
        server.publish(&setup.mac(), &config.text());
    };

    node(1, &format!("tuning: {{kernelArguments: [{CLOCK}, {WITHOUT_TUNED}]}}\n"));
    let guest = Guest::start(&setup, Some(&server));
    guest.expect(BLESSED, DEADLINE);
    let session = Session::new(&key, guest.ssh_port());
    // Which CPUs the other two isolate; everything else of the record is as this boot's own.
    let record = session.say("cat /etc/tatara/tuning.json");
    let mut record: Value = serde_json::from_str(&record).context("the record")?;
    record["housekeeping"] = "0-1".into();
    record["isolated"] = tuned::ISOLATED.into();
    session.write("/run/wanted.json", &record.to_string());
    let untouched = noise(&session, "--record /run/wanted.json")?;
    end(&session, &guest);

    node(
        2,
        &format!(
            "tuning: {{housekeeping: {{coresPerNumaNode: 1}}, isolation: static, kernelArguments: [{CLOCK}, {WITHOUT_TUNED}]}}\n"
        ),
    );
    let guest = Guest::start(&setup, Some(&server));
    guest.expect(BLESSED, DEADLINE);
    let session = Session::new(&key, guest.ssh_port());
    let ours = noise(&session, "")?;
    let pin = seconds(&session, "tatara-node pin")?;
    end(&session, &guest);

    node(3, &tuned::files());
    let with_arguments = tuned::BOOT_ARGUMENTS.into_iter().fold(setup.clone(), Setup::kernel_arg);
    let guest = Guest::start(&with_arguments, Some(&server));
    guest.expect(BLESSED, DEADLINE);
    let session = Session::new(&key, guest.ssh_port());
    tuned::applied(&session, DEADLINE);
    session.write("/run/wanted.json", &record.to_string());
    let theirs = noise(&session, "--record /run/wanted.json")?;
    let applying = seconds(&session, "tuned-adm profile cpu-partitioning")?;
    end(&session, &guest);

    figures.add("tuning.pin_seconds", pin, applying, "s", RUNS);
    compare(figures, &ours, &theirs, &untouched);
    Ok(())
}

fn compare(figures: &mut Figures, ours: &Noise, tuned: &Noise, untouched: &Noise) {
    figures.add("tuning.isolated_loc_vs_housekeeping", ours.share, tuned.share, "share", 1);
    figures.add("tuning.isolated_loc_vs_housekeeping.untouched", ours.share, untouched.share, "share", 1);
    figures.add("tuning.ticks.tuned", ours.ticks, tuned.ticks, "in 10 s", 1);
    figures.add("tuning.ticks.untouched", ours.ticks, untouched.ticks, "in 10 s", 1);
    figures.add("tuning.ipis.tuned", ours.ipis, tuned.ipis, "in 10 s", 1);
    figures.add("tuning.ipis.untouched", ours.ipis, untouched.ipis, "in 10 s", 1);
    figures.add("tuning.device_interrupts.tuned", ours.devices, tuned.devices, "in 10 s", 1);
    figures.add("tuning.device_interrupts.untouched", ours.devices, untouched.devices, "in 10 s", 1);
    figures.add("tuning.longest_gap.tuned", ours.longest_gap_us, tuned.longest_gap_us, "µs", 1);
    figures.add("tuning.longest_gap.untouched", ours.longest_gap_us, untouched.longest_gap_us, "µs", 1);
}

fn end(session: &Session<'_>, guest: &Guest) {
    session.power_off();
    guest.ended(DEADLINE);
}

/// Wall seconds of a command of root's, in the guest.
fn seconds(session: &Session<'_>, command: &str) -> Result<f64> {
    let times: Result<Vec<f64>> = (0..RUNS)
        .map(|_| {
            let answer = session
                .say(&format!("a=$(date +%s.%N); sudo {command} >/dev/null; b=$(date +%s.%N); echo $a $b"));
            let stamps: Vec<f64> = answer.split_whitespace().filter_map(|stamp| stamp.parse().ok()).collect();
            let [before, after] = stamps[..] else { anyhow::bail!("no time of `{command}` in `{answer}`") };
            Ok(after - before)
        })
        .collect();
    times.map(median)
}

fn noise(session: &Session<'_>, options: &str) -> Result<Noise> {
    let verdict = session.node(&format!("tuning verify --noise 10s {options}"));
    let cpus = verdict["noise"]["cpus"].as_array().context("no measurement")?;
    let (isolated, others): (Vec<&Value>, Vec<&Value>) = cpus.iter().partition(|cpu| cpu["isolated"] == true);
    let tick = |cpu: &Value| cpu["tick"].as_f64().unwrap_or(f64::NAN);
    let mean = |value: &dyn Fn(&Value) -> f64| {
        isolated.iter().map(|cpu| value(cpu)).sum::<f64>() / isolated.len().max(1) as f64
    };
    let rows = |cpu: &Value, key: &str| -> f64 {
        let rows = cpu[key].as_object().into_iter().flat_map(|rows| rows.values());
        rows.filter_map(|row| row.as_f64().or_else(|| row["count"].as_f64())).fold(0.0, f64::add)
    };
    let busy = others.first().map_or(f64::NAN, |cpu| tick(cpu));
    Ok(Noise {
        ticks: mean(&tick),
        ipis: mean(&|cpu| rows(cpu, "ipi")),
        devices: mean(&|cpu| rows(cpu, "irqs")),
        longest_gap_us: mean(&|cpu| cpu["longestGapUs"].as_f64().unwrap_or(f64::NAN)),
        share: mean(&tick) / busy,
    })
}
