//! `/init`: PID 1, its worker, and the kernel's `modprobe`, by how it is called.

mod boot;
mod confirm;
mod enter;
mod failure;
mod install;
mod machine;
mod network;
mod rehearsal;
mod staged;
mod wanted;

use dlmalloc::GlobalDlmalloc;
use std::path::Path;
use std::process::ExitCode;
use tatara_init::{modprobe, supervisor};

/// musl's own gives every emptied group of slots back at once: hundreds of munmap(2) a boot, and each one interrupts all CPUs that a
/// thread of ours ran on (docs/adr/0010-allocator-of-pid-1.md).
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let args: Vec<String> = args.collect();
    match (name.as_str(), args.first().map(String::as_str)) {
        ("modprobe", _) => modprobe::run(&args),
        (_, Some("worker")) => boot::worker(),
        _ => supervisor::run(),
    }
}
