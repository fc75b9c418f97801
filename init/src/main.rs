//! `/init`: PID 1, its worker, and the kernel's `modprobe`, by how it is called.

mod boot;
mod enter;
mod failure;
mod install;
mod machine;
mod network;
mod rehearsal;
mod wanted;

use std::path::Path;
use std::process::ExitCode;
use tatara_init::{modprobe, supervisor};

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
