//! `tatara-node`, the command on an installed node.
//!
//! Exit status: 0 done, 1 it failed (the error has a code and a hint), 2 wrong usage, 3 the node runs but is degraded
//! (`status` only).

mod node;

use clap::{Parser, Subcommand};
use node::Node;
use node::stage::Look;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
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
    /// Every step from kernel start to blessed, and to joined on a worker, and where the time went
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
    /// Keep interrupts, kernel work and packets off the isolated CPUs (done by tatara-pin.service)
    Pin {
        /// Go on looking for so many seconds: a device that was just plugged in is not ready at once
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        during: u64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Import the container images of the config (done by tatara-images.service)
    Images,
    /// Make the kubelet's configuration of the cluster's and this node's part (done before each start of kubelet.service)
    Kubelet,
    /// Join the cluster, once (done by tatara-join.service)
    Join,
    /// CPU isolation
    Tuning {
        #[command(subcommand)]
        command: TuningCommand,
    },
    /// Fetch this node's config for the next boot from the disk (done by tatara-stage.timer and when the node goes down)
    Stage {
        /// Give up in time for a shutdown
        #[arg(long)]
        last: bool,
    },
    /// Have the next boot fetch config and release, and reinstall or upgrade if the config asks for it
    Reinstall {
        /// Do it; without, only say what would happen
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum TuningCommand {
    /// Compare what runs with what was asked for, point by point; exit status 1 when something differs
    Verify {
        /// Measure, too: a busy loop on every isolated CPU, for so long
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        noise: Option<Duration>,
        /// Draw the measurement into this SVG file
        #[arg(long, value_name = "FILE", requires = "noise")]
        svg: Option<PathBuf>,
        /// Compare with this record, the `/etc/tatara/tuning.json` of another boot or node, instead of this boot's
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure, and fail where `tuning.accept` of the config allows less (done by tatara-accept.service before the node joins)
    Accept,
}

/// `10s` or `10`, at least a second and at most an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<u64>().ok();
    let seconds = number.filter(|seconds| (1..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected seconds, `1s` to `3600s`".to_owned())
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
        Command::Pin { during, json } => {
            let during = Duration::from_secs(during.min(3600));
            node::tuning::pin::run(&node, &node.kernel(), during, node::Format::new(json))
        }
        Command::Tuning { command: TuningCommand::Verify { noise, svg, record, json } } => {
            let format = node::Format::new(json);
            let options = node::tuning::verify::Options { noise, svg, record, format };
            node::tuning::verify::run(&node, &node.kernel(), &options)
        }
        Command::Images => node::images::run(&node),
        Command::Kubelet => node::kubelet::run(&node),
        Command::Join => node::join::run(&node),
        Command::Tuning { command: TuningCommand::Accept } => {
            node::tuning::accept::run(&node, &node.kernel())
        }
        Command::Stage { last } => node::stage::run(&node, if last { Look::Last } else { Look::Now }),
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

#[cfg(test)]
mod tests {
    use super::{Cli, seconds};
    use clap::CommandFactory as _;
    use std::time::Duration;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert_eq!(seconds("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert!(seconds("0").is_err() && seconds("1m").is_err() && seconds("4000s").is_err());
    }
}
