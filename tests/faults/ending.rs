//! Ctrl-Alt-Del and the power button end the machine at every stage of a boot, within seconds.

use crate::{direct, good, served};
use serde_json::json;
use std::time::Duration;
use support::guest::{Guest, Nic, Setup};
use support::trial::{Disks, SOON, Trial};

/// For a machine that was asked to end: emulated, on a busy host.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum By {
    CtrlAltDel,
    PowerButton,
}

impl By {
    fn ask(self, guest: &Guest) {
        match self {
            By::CtrlAltDel => guest.press(&["ctrl", "alt", "delete"]),
            By::PowerButton => {
                guest.monitor("system_powerdown", &json!({})).expect("the power button");
            }
        }
        // What it says is what it was asked for: a machine that crashes ends, too.
        let says = match self {
            By::CtrlAltDel => "Ctrl-Alt-Del: the machine restarts",
            By::PowerButton => "the power button: the machine powers off",
        };
        guest.expect(says, WITHIN);
        guest.ended(WITHIN);
    }
}

/// The button's driver is loaded beside the others, and says this when it hears the button (kernel, drivers/acpi/button.c,
/// acpi_button_add); the line of its input device comes before that.
fn button_is_heard(guest: &Guest) {
    guest.printed("ACPI: button: Power Button", SOON);
}

/// Both, each on a machine of its own that has printed these lines.
fn ends_at(done: &'static str, setup: &Setup, lines: &[&str], disks: Disks) {
    let trial = Trial::new("ending", done, setup.clone());
    let server = served(&trial.setup, &good().text());
    for by in [By::CtrlAltDel, By::PowerButton] {
        let guest = trial.start(&server);
        for line in lines {
            guest.expect(line, SOON);
        }
        button_is_heard(&guest);
        by.ask(&guest);
    }
    if disks == Disks::Untouched {
        trial.untouched();
    }
    trial.keeps(disks);
}

#[test]
fn while_it_waits_for_a_network() {
    let done = "Ctrl-Alt-Del, power button while there is no carrier";
    let setup = direct().nics(&[Nic::VirtioWithoutLink]);
    ends_at(done, &setup, &["step=network state=begin"], Disks::Untouched);
}

#[test]
fn while_it_writes() {
    let done = "Ctrl-Alt-Del, power button while the payload is written";
    ends_at(done, &direct(), &["step=payload state=begin"], Disks::Irrelevant);
}

#[test]
fn between_two_tries() {
    let done = "Ctrl-Alt-Del, power button while it waits for the next try";
    let setup = direct().disk_gib(2);
    // The fourth wait is 4 s at least.
    ends_at(done, &setup, &["try again in"; 4], Disks::Untouched);
}

/// PID 1 alone is there then.
#[test]
fn while_no_worker_runs() {
    let done = "Ctrl-Alt-Del, power button when the worker has died";
    let setup = direct().disk_gib(2).kernel_arg("sysrq_always_enabled");
    let trial = Trial::new("ending", done, setup);
    let server = served(&trial.setup, &good().text());
    for by in [By::CtrlAltDel, By::PowerButton] {
        let guest = trial.start(&server);
        for seconds in [1, 2, 4, 8] {
            guest.expect("step=find-disk state=ok", SOON);
            // A worker that is killed before has not loaded its driver.
            button_is_heard(&guest);
            guest.press(&["alt", "sysrq", "i"]);
            guest.expect(&format!("the worker is started again in {seconds} s"), SOON);
        }
        by.ask(&guest);
    }
    trial.untouched();
    trial.keeps(Disks::Untouched);
}
