//! What keeps work off the isolated CPUs while the node runs: setting it (`pin`), comparing it (`verify`), measuring it
//! (`noise`), refusing it (`accept`). All of it goes by one record, which the boot rendered from the plan that the kernel arguments are from.

pub(crate) mod accept;
mod checks;
mod interrupts;
mod kernel;
mod metrics;
mod noise;
mod noise_svg;
mod noise_text;
pub(crate) mod pin;
mod point;
mod points;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

use super::{Node, read_json};
use kernel::Kernel;
use tatara_spec::cpu::{Surroundings, Warning, advise};
use tatara_spec::layout::TUNING;
use tatara_spec::record::TuningRecord;
use tatara_spec::{Code, Fault};

pub(crate) use kernel::Live;

/// The record that this boot rendered.
pub(super) fn record(node: &Node) -> Result<TuningRecord, Fault> {
    let path = node.run(TUNING);
    read_json(&path)?.ok_or_else(|| {
        let why = format!("{} is missing: this system was not rendered by tatara", path.display());
        Fault::new(Code::NodeState, why)
    })
}

/// The plan's own warnings, and those of the machine as it runs.
pub(super) fn warnings(kernel: &dyn Kernel, record: &TuningRecord) -> Vec<Warning> {
    let nics = kernel.dirs("/sys/class/net").into_iter().filter(|nic| {
        // A link to a device is what a virtual interface does not have.
        kernel.exists(&format!("/sys/class/net/{nic}/device"))
    });
    let queues = |nic: String| {
        let queues = kernel.dirs(&format!("/sys/class/net/{nic}/queues"));
        let receive = queues.iter().filter(|queue| queue.starts_with("rx-")).count();
        (nic, receive)
    };
    let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let around = Surroundings {
        clocksource: kernel.read(clock).ok().map(|text| text.trim().to_owned()),
        nic_queues: nics.map(queues).collect(),
        reserved: None,
    };
    let mut warnings = record.warnings.clone();
    warnings.extend(advise(&record.plan(), &around));
    warnings
}
