//! How PID 1 is linked for the machine (docs/adr/0004-size-of-pid-1.md).

use std::error::Error;
use std::path::PathBuf;

/// In the build itself: a checkout's path would be kept in a build that several share.
const SCRIPT: &str = include_str!("link.ld");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=link.ld");
    // The host's builds are for tests and debuggers, which want to unwind.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        let script = PathBuf::from(std::env::var("OUT_DIR")?).join("link.ld");
        std::fs::write(&script, SCRIPT)?;
        for argument in ["-z,pack-relative-relocs", "--no-eh-frame-hdr", &format!("-T,{}", script.display())]
        {
            println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
        }
    }
    Ok(())
}
