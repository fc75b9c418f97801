//! The worker process is killed, by the kernel's own SysRq: PID 1 survives it, says so, and starts another, which ends what the
//! first began.

use crate::{boots, direct, good, served};
use support::seed::some;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

/// One machine, whose worker is killed at each of these lines.
fn killed(done: &'static str, salt: u64, lines: &[&str]) {
    let mut trial = Trial::new("worker", done, direct().kernel_arg("sysrq_always_enabled"));
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    for line in some(lines, 2, salt) {
        guest.expect(line, SOON);
        // SysRq-i: SIGKILL to all processes but PID 1 (kernel, Documentation/admin-guide/sysrq.rst).
        guest.press(&["alt", "sysrq", "i"]);
        guest.expect("sysrq: Kill All Tasks", SOON);
        let text = guest.expect("step=worker state=fail", SOON);
        assert!(text.contains(Code::Panic.name()) && text.contains("signal 9"), "{text}");
        guest.expect("the worker is started again in", SOON);
    }
    boots(&guest);
    guest.printed(Code::Panic.hint(), SOON);
    assert_eq!(guest.kernels(), 1, "PID 1 did not survive:\n{}", guest.tail());
    trial.saw(Code::Panic);
    trial.ends(guest, Disks::Installed);
}

#[test]
fn killed_before_the_first_write() {
    let lines =
        ["step=find-disk state=ok", "step=network state=ok", "step=config state=ok", "step=plan state=ok"];
    killed("the worker is killed at four steps before the first write", 21, &lines);
}

#[test]
fn killed_while_it_writes() {
    let lines = [
        "step=partition state=begin",
        "step=payload state=begin",
        "step=payload state=ok",
        "step=boot-loader state=begin",
    ];
    killed("the worker is killed at four steps of the install", 22, &lines);
}

#[test]
fn killed_when_it_enters_the_node() {
    let lines =
        ["step=record state=begin", "step=record state=ok", "step=root state=ok", "step=render state=ok"];
    killed("the worker is killed at four steps into the node", 23, &lines);
}
