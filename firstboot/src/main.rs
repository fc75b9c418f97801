//! `tatara-node`, the command on an installed node.
//!
//! Exit status: 0 done, 1 it failed (the error has a code and a hint), 2 wrong usage, 3 the node runs but is degraded
//! (`status` only).

mod node;

use clap::{Parser, Subcommand};
use node::Node;
use std::path::PathBuf;
use std::process::ExitCode;
use tatara_spec::Fault;

/// A tatara node: how it booted, how long that took, whether it is healthy.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 done; 1 failed; 2 wrong usage; 3 (status) the node is degraded."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What runs here, and what is not as it should be
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Every step from kernel start to blessed, and where the time went
    Timeline {
        /// As JSON
        #[arg(long, conflicts_with = "svg")]
        json: bool,
        /// Draw it into this SVG file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        /// The boot that installed this node instead of this boot
        #[arg(long)]
        install: bool,
    },
    /// Mark this boot as good when the node is healthy (done by tatara-bless.service)
    Bless,
    /// Have the next boot fetch config and release, and reinstall if the config's generation was raised
    Reinstall {
        /// Do it; without, only say what would happen
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let node = Node::new(PathBuf::from("/"));
    let result = match cli.command {
        Command::Status { json } => node::status::run(&node, node::Format::new(json)),
        Command::Timeline { json, svg, install } => {
            let which =
                if install { node::timeline::Which::Install } else { node::timeline::Which::ThisBoot };
            let output = svg.map_or_else(|| node::Format::new(json).into(), node::timeline::Output::Svg);
            node::timeline::run(&node, which, &output)
        }
        Command::Bless => node::bless::run(&node),
        Command::Reinstall { yes } => node::reinstall::run(&node, node::reinstall::Consent::new(yes)),
    };
    result.unwrap_or_else(|fault| report(&fault))
}

/// The chain of causes once, the code, and what to do.
fn report(fault: &Fault) -> ExitCode {
    eprintln!("tatara-node: {}: {}", fault.code, fault.chain());
    eprintln!("hint: {}", fault.code.hint());
    ExitCode::FAILURE
}
