//! Every input of the corpora, through the same functions as the fuzzer, without one.

#![allow(clippy::expect_used, reason = "helpers of tests, too, end the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tatara_fuzz::TARGETS;

/// A corpus stays small: it is read by people, too.
const INPUTS_MAX: usize = 80;
const INPUT_BYTES_MAX: u64 = 8 * 1024;

/// No input takes longer, not even unoptimised on a slow machine; in the fuzzer the limit is libFuzzer's `-timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs [`replay`] in a network of its own, as scripts/fuzz runs the fuzzer.
#[test]
fn what_the_fuzzer_found_once_stays_found() {
    let own = std::env::current_exe().expect("this program");
    let arguments = ["--exact", "replay", "--ignored", "--nocapture"];
    let done = Command::new("../scripts/own-network")
        .arg(own)
        .args(arguments)
        .output()
        .expect("scripts/own-network");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "called by the test above, in a network of its own"]
fn replay() {
    for target in TARGETS {
        for path in inputs(target.name) {
            // Shown when the target panics.
            println!("{}", path.display());
            let begun = Instant::now();
            (target.run)(&fs::read(&path).expect("an input"));
            assert!(begun.elapsed() < PATIENCE, "{} took {:?}", path.display(), begun.elapsed());
        }
    }
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new("corpus").join(target)).expect("a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an input").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_target_has_a_small_corpus() {
    for target in TARGETS {
        let inputs = inputs(target.name);
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
