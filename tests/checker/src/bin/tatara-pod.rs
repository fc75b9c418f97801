//! What the pods of the tests run, as the only file of their image. `pause` keeps a pod's namespaces; `say TEXT…` prints the
//! text, then the CPUs that it may run on, and stays; `cpus` prints the CPUs and ends; `write FILE TEXT` writes a file and stays, as
//! network plugins install their configuration.

use nix::sys::signal::{SigSet, Signal};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, [])) if command == "pause" => stay(),
        Some((command, [])) if command == "cpus" => {
            print_cpus();
            ExitCode::SUCCESS
        }
        Some((command, text)) if command == "say" => {
            println!("{}", text.join(" "));
            print_cpus();
            stay()
        }
        Some((command, [file, text])) if command == "write" => {
            if let Err(error) = std::fs::write(file, text) {
                eprintln!("cannot write {file}: {error}");
                return ExitCode::FAILURE;
            }
            stay()
        }
        _ => {
            eprintln!("usage: tatara-pod pause | say TEXT… | cpus | write FILE TEXT");
            ExitCode::FAILURE
        }
    }
}

/// `cpus: 2-3`, as proc(5) has them of this process.
fn print_cpus() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    println!("cpus: {}", cpus.unwrap_or("unknown").trim());
}

/// Until the container is stopped. The first process of a container has no default for SIGTERM (pid_namespaces(7)): one that does not ask
/// for it holds up the machine's power-off until systemd kills it, after 90 s.
fn stay() -> ExitCode {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    match stop.thread_block().and_then(|()| stop.wait()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot wait for SIGTERM: {error}");
            ExitCode::FAILURE
        }
    }
}
