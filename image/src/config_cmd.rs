//! `tatara config check` and `tatara config schema`.

use anyhow::Context;
use clap::Subcommand;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tatara_spec::config::{self, NodeConfig};

/// Check node configs before machines do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check configs: exit status 0, or 1 with one `file:line:column: message` a line.
    Check {
        /// NodeConfig files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of a NodeConfig, for editors and CI.
    Schema,
}

/// Runs the command on standard output.
///
/// # Errors
/// A file that cannot be read, or a closed standard output. A faulty config is not an error but exit status 1.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Check { files } => check(&files, &mut out),
        Command::Schema => {
            let text =
                serde_json::to_string_pretty(&NodeConfig::schema()).context("writing the schema as JSON")?;
            writeln!(out, "{text}").context("writing the schema")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(files: &[PathBuf], out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut faulty = false;
    for file in files {
        let text = read(file)?;
        for diagnostic in config::parse(&file.to_string_lossy(), &text).err().into_iter().flatten() {
            faulty = true;
            writeln!(out, "{diagnostic}").context("writing a diagnostic")?;
        }
    }
    Ok(if faulty { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::check;
    use std::path::PathBuf;
    use std::process::ExitCode;

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from("tests/fixtures/config").join(name)
    }

    #[test]
    fn a_good_file_is_silent_and_a_bad_one_has_a_line_a_fault() {
        let mut out = Vec::new();
        let status = check(&[fixture("good/minimal.yaml")], &mut out).unwrap();
        assert_eq!((status, out.len()), (ExitCode::SUCCESS, 0));

        let bad = fixture("bad/unknown-key.yaml");
        let status = check(&[fixture("good/minimal.yaml"), bad.clone()], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(status, ExitCode::FAILURE);
        assert!(text.starts_with(&format!("{}:4:3: unknown key `nmae`", bad.display())), "{text}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = check(&[fixture("good/nowhere.yaml")], &mut Vec::new()).unwrap_err();
        assert!(format!("{error:#}").contains("good/nowhere.yaml"), "{error:#}");
    }
}
