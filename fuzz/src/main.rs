//! One program for all targets, because linking is what takes time; `TATARA_FUZZ_TARGET` says which.

#![no_main]

use std::sync::LazyLock;
use tatara_fuzz::{Target, target};

static CHOSEN: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("TATARA_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        eprintln!("TATARA_FUZZ_TARGET is {name:?}, which is no target");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (CHOSEN.run)(input));
