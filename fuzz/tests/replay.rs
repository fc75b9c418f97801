//! Every input of the corpora, through the same functions as the fuzzer, without one; and the shape of the corpora.

#![allow(clippy::expect_used, reason = "helpers of tests, too, end the test")]

use std::fs;
use std::process::Command;
use tatara_fuzz::{TARGETS, inputs};

/// A corpus stays small: it is read by people, too.
const INPUTS_MAX: usize = 80;
const INPUT_BYTES_MAX: u64 = 8 * 1024;

/// In a network of its own, as scripts/fuzz runs the fuzzer.
#[test]
fn what_the_fuzzer_found_once_stays_found() {
    let mut replay = Command::new("../scripts/own-network");
    let done = replay.arg(env!("CARGO_BIN_EXE_replay")).output().expect("scripts/own-network");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let every: usize = TARGETS.iter().map(|target| inputs(target.name).expect("a corpus").len()).sum();
    assert_eq!(said.lines().count(), every, "{said}");
}

#[test]
fn every_target_has_a_small_corpus() {
    for target in TARGETS {
        let inputs = inputs(target.name).expect("a corpus");
        assert!((3..=INPUTS_MAX).contains(&inputs.len()), "{} inputs for {}", inputs.len(), target.name);
        for path in inputs {
            let bytes = fs::metadata(&path).expect("an input").len();
            assert!(bytes <= INPUT_BYTES_MAX, "{} has {bytes} bytes", path.display());
        }
    }
}

#[test]
fn every_corpus_belongs_to_a_target() {
    for entry in fs::read_dir("corpus").expect("corpora") {
        let name = entry.expect("a corpus").file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "{name:?} belongs to no target");
    }
}
