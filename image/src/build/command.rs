//! Running the system's own tools, and saying which Debian package a missing one is in.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

/// A tool of the build machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// The program's name.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// Lines of a failed tool's standard error that are shown: its last words say why it failed.
const STDERR_LINES: usize = 20;

impl Tool {
    /// A command without input, with a predictable locale, and with the system directories in its path: an ordinary user's
    /// path has no /usr/sbin, where mke2fs is.
    pub(crate) fn command(self) -> Command {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        let mut command = Command::new(self.program);
        command.env("PATH", path).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs the tool with arguments only.
    ///
    /// # Errors
    /// As [`Tool::output`].
    pub(crate) fn run<I, S>(self, arguments: I) -> Result<Vec<u8>>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.command();
        command.args(arguments);
        self.output(&mut command)
    }

    /// Runs a command made by [`Tool::command`] and gives its standard output.
    ///
    /// # Errors
    /// The tool is missing (with its package), or ended with another status than 0 (with the end of its standard error).
    pub(crate) fn output(self, command: &mut Command) -> Result<Vec<u8>> {
        let Output { status, stdout, stderr } = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("`{}` is not installed; run `apt-get install {}` as root", self.program, self.package)
            }
            Err(error) => return Err(error).with_context(|| format!("cannot start `{}`", self.program)),
        };
        if !status.success() {
            let text = String::from_utf8_lossy(&stderr);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n");
            bail!("`{}` failed with {status}:\n{tail}", self.program);
        }
        Ok(stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tool_names_its_package() {
        let tool = Tool { program: "no-such-program-here", package: "its-package" };
        let error = tool.run(["-x"]).unwrap_err().to_string();
        assert!(error.contains("apt-get install its-package"), "{error}");
    }

    #[test]
    fn failed_tool_shows_the_end_of_its_stderr() {
        let tool = Tool { program: "sh", package: "dash" };
        let script = "for i in $(seq 1 50); do echo line $i >&2; done; exit 3";
        let error = tool.run(["-c", script]).unwrap_err().to_string();
        assert!(error.contains("line 50") && !error.contains("line 30\n"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
