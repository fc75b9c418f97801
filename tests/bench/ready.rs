//! From power-on to a Node that is Ready: an empty machine that installs itself, beside an installed Debian that is made a node by hand
//! ([`ByHand`]), in the same machine and cluster.

use crate::by_hand::{ByHand, Times};
use crate::figures::Figures;
use crate::tools::Rivals;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Instant;
use support::cluster::worker::{self, BOOT, NAME, Stage};
use support::guest::{Firmware, Guest, Start};
use support::ssh::Key;
use support::steps::{self, seconds};
use support::{lan, release};

const RUNS: usize = 1;

pub(crate) fn measure(figures: &mut Figures, rivals: &Rivals) -> Result<()> {
    let (release, rivals) = (release::node(), rivals.clone());
    let (ours, theirs) = lan::alone(move || both(&release, &rivals))?;
    let mut add = |name, of: &dyn Fn(&Times) -> f64| figures.add(name, of(&ours), of(&theirs), "s", RUNS);
    add("ready.power_on_to_ready", &|times| times.ready);
    add("ready.power_on_to_join", &|times| times.join);
    add("ready.kubeadm_join", &|times| times.joined - times.join);
    add("ready.joined_to_ready", &|times| times.ready - times.joined);
    add("ready.images", &|times| times.images_s);
    add("ready.last_boot", &|times| times.last_boot_s);
    Ok(())
}

fn both(release: &Path, rivals: &Rivals) -> Result<(Times, Times)> {
    let setup = worker::machine(Firmware::Uefi, Start::Pxe);
    let stage = Stage::new(release, setup, Key::generate());
    let ours = ours(&stage)?;
    stage.cluster.say(&["delete", "node", NAME]);
    let theirs = ByHand::new(&stage, rivals, release)?.measure(&stage)?;
    Ok((ours, theirs))
}

fn ours(stage: &Stage) -> Result<Times> {
    let power_on = Instant::now();
    let guest = Guest::start(&stage.setup, Some(&stage.server));
    guest.expect("step=joined state=ok", BOOT);
    let _ = stage.node().ready(None);
    let ready = seconds(power_on, Instant::now());
    let steps = steps::of(guest.console(), power_on)?;
    let span = |name: &str| {
        let step = steps.iter().find(|step| step.name == name);
        let span = step.and_then(|step| Some((step.begin_s, step.end_s?)));
        span.with_context(|| format!("no step {name} on the console"))
    };
    let ((join, joined), images) = (span("join")?, span("images")?);
    let last_boot_s = stage.node().multi_user_s();
    stage.node().power_off();
    guest.ended(BOOT);
    Ok(Times { join, joined, ready, images_s: images.1 - images.0, last_boot_s })
}
