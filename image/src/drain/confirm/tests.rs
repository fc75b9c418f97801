use super::confirm;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::Write as _;
use tatara_spec::error::{Code, Fault};

/// A terminal at which this has been typed: what comes of the question, and what was asked.
fn typed(answer: &str) -> (Result<(), Fault>, String) {
    let hand = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&hand).unwrap();
    unlockpt(&hand).unwrap();
    let path = ptsname(&hand, Vec::new()).unwrap();
    let terminal = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    File::from(hand.try_clone().unwrap()).write_all(answer.as_bytes()).unwrap();
    let mut question = Vec::new();
    let result = confirm("node-1", File::from(terminal), &mut question);
    (result, String::from_utf8(question).unwrap())
}

#[test]
fn only_yes_goes_on() {
    for yes in ["y\n", "Y\n", "yes\n"] {
        let (result, question) = typed(yes);
        result.unwrap();
        assert_eq!(question, "Drain node-1? [y/N] ");
    }
    // The last is Ctrl-D.
    for no in ["n\n", "\n", "yesterday\n", "\x04"] {
        let fault = typed(no).0.unwrap_err();
        assert_eq!(fault.code, Code::DrainAnswer);
        assert_eq!(fault.message, "node-1 is not drained: the answer was no");
    }
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let mut question = Vec::new();
    let fault = confirm("node-1", File::open("/dev/null").unwrap(), &mut question).unwrap_err();
    assert_eq!(fault.code, Code::DrainAnswer);
    assert!(fault.message.contains("`--yes` agrees") && question.is_empty(), "{}", fault.message);
}
