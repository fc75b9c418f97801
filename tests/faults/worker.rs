//! The worker process is killed, by the kernel's own SysRq: PID 1 survives it, says so, and starts another, which ends what the
//! first began.

use crate::{boots, direct, good, served};
use support::guest::Guest;
use support::seed::some;
use support::server::Server;
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
    // Behind these it is a few milliseconds until the new root's init takes over, which a key may come too late for.
    // `panics_before_the_node` has the steps of that time.
    let lines = ["step=record state=begin", "step=record state=ok", "step=root state=begin"];
    killed("the worker is killed at three steps into the node", 23, &lines);
}

/// One machine, whose worker panics once at the begin of each of these steps.
fn panicked(trial: &Trial, server: &Server, steps: &[&str]) -> Guest {
    let guest = trial.start(server);
    for step in steps {
        guest.expect(&format!("step={step} state=begin"), SOON);
        let text = guest.expect("step=worker state=fail", SOON);
        let says = format!("tatara.panic={step} asks for this");
        assert!(text.contains(Code::Panic.name()) && text.contains(&says), "{text}");
        guest.expect("the worker is started again in", SOON);
    }
    guest
}

/// It then installs and boots, in one kernel.
fn panics(done: &'static str, argument: &'static str) {
    let mut trial = Trial::new("worker", done, direct().kernel_arg(argument));
    let server = served(&trial.setup, &good().text());
    let steps: Vec<&str> = argument.trim_start_matches("tatara.panic=").split(',').collect();
    let guest = panicked(&trial, &server, &steps);
    boots(&guest);
    assert_eq!(guest.kernels(), 1, "PID 1 did not survive:\n{}", guest.tail());
    trial.saw(Code::Panic);
    trial.ends(guest, Disks::Installed);
}

#[test]
fn panics_before_the_config() {
    panics("a panic in each step before the config", "tatara.panic=drivers,find-disk,network,clock");
}

#[test]
fn panics_before_the_last_writes() {
    panics(
        "a panic in each step from the config to the payload",
        "tatara.panic=config,release,plan,partition,payload",
    );
}

#[test]
fn panics_before_the_node() {
    panics(
        "a panic in each step from the read-back into the node",
        "tatara.panic=verify,boot-loader,record,root,render,switch-root",
    );
}

/// With a config that needs arguments of its own; the kernel that is started by kexec is asked for no panic.
#[test]
fn panics_before_kexec() {
    let setup = direct().kernel_arg("tatara.panic=kexec");
    let mut trial = Trial::new("worker", "a panic in the step that starts the node's kernel", setup);
    let config = good().with("tuning: {kernelArguments: [audit=0]}\n");
    let server = served(&trial.setup, &config.text());
    let guest = panicked(&trial, &server, &["kexec"]);
    boots(&guest);
    assert_eq!(guest.kernels(), 2, "one kernel that installs, one kexec:\n{}", guest.tail());
    trial.saw(Code::Panic);
    trial.ends(guest, Disks::Installed);
}
