//! The `tatara` command: it only dispatches.

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;
use tatara::{build, config_cmd, drain, serve, vm, write};
use tatara_spec::error::Fault;

/// From bare metal to a tuned Kubernetes node in one boot.
#[derive(Debug, Parser)]
#[command(name = "tatara", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make and check releases, and sticks and disks from them.
    #[command(subcommand)]
    Image(Image),
    /// Check node configs.
    #[command(subcommand)]
    Config(config_cmd::Command),
    /// Serve releases and configs over HTTPS, with a CA of its own.
    Serve(serve::Args),
    // Its help is that of the arguments.
    Drain(Box<drain::Args>),
    /// Boot machines in QEMU.
    Vm(vm::Args),
}

#[derive(Debug, Subcommand)]
enum Image {
    /// Make a release.
    Build(Box<build::Options>),
    /// Make a USB stick's image with kernel arguments filled in.
    Usb(build::usb::Options),
    /// Check a release's signature and digests.
    Verify(build::verify::Options),
    /// Write a release's disk image to a device and read it back.
    Write(write::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(status) => status,
        Err(error) => report(&error),
    }
}

/// The chain of causes once, and where there is a code, the code and what to do.
fn report(error: &anyhow::Error) -> ExitCode {
    // The terminal may have hung up, which is no reason to panic.
    let _ = match error.downcast_ref::<Fault>() {
        Some(fault) => {
            writeln!(std::io::stderr(), "tatara: {}: {error:#}\nhint: {}", fault.code, fault.code.hint())
        }
        None => writeln!(std::io::stderr(), "tatara: {error:#}"),
    };
    ExitCode::FAILURE
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Image(Image::Build(options)) => build::run(&options).map(|_| ExitCode::SUCCESS),
        Command::Image(Image::Usb(options)) => build::usb::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Image(Image::Verify(options)) => build::verify::run(&options).map(|_| ExitCode::SUCCESS),
        Command::Image(Image::Write(options)) => write::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Config(command) => config_cmd::run(command),
        Command::Serve(args) => serve::run(args),
        Command::Drain(args) => drain::run(&args),
        Command::Vm(args) => vm::run(args),
    }
}
