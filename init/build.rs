//! How PID 1 is linked for the machine (docs/adr/0004-size-of-pid-1.md).

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=link.ld");
    // The host's builds are for tests and debuggers, which want to unwind.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("link.ld");
        for argument in ["-z,pack-relative-relocs", "--no-eh-frame-hdr", &format!("-T,{}", script.display())]
        {
            println!("cargo::rustc-link-arg-bins=-Wl,{argument}");
        }
    }
}
