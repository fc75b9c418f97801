//! Programs that `tatara-node` runs, and what they say.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use tatara_spec::layout;

/// Lines of a program's end that messages show.
const LAST_LINES: usize = 8;

/// Where programs and local services are; others in tests.
#[derive(Debug, Clone)]
pub(super) struct System {
    pub(super) kubeadm: PathBuf,
    pub(super) ctr: PathBuf,
    pub(super) skopeo: PathBuf,
    pub(super) containers_storage: PathBuf,
    /// Of CRI-O's storage.
    pub(super) storage_driver: &'static str,
    pub(super) systemctl: PathBuf,
    pub(super) tar: PathBuf,
    pub(super) journalctl: PathBuf,
    /// The kubelet's own health check, `host:port`.
    pub(super) kubelet_health: String,
}

impl Default for System {
    fn default() -> Self {
        Self {
            kubeadm: "kubeadm".into(),
            ctr: "ctr".into(),
            skopeo: "skopeo".into(),
            containers_storage: "containers-storage".into(),
            storage_driver: layout::containers::DRIVER,
            systemctl: "systemctl".into(),
            tar: "tar".into(),
            journalctl: "journalctl".into(),
            // Kubernetes, KubeletConfiguration: healthzBindAddress and healthzPort.
            kubelet_health: "127.0.0.1:10248".to_owned(),
        }
    }
}

/// How a program ended, and all that it said on either output, in order.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) said: String,
}

impl Finished {
    /// Its last words on one line.
    pub(super) fn last_words(&self) -> String {
        let lines: Vec<&str> = self.said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        lines[from..].join(" / ")
    }
}

/// Runs a program without input; `heard` gets each line as it comes.
pub(super) fn run(command: &mut Command, mut heard: impl FnMut(&str)) -> std::io::Result<Finished> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the other ends of the pipe: it would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut said = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.by_ref().read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        heard(text.trim_end());
        said.push_str(&text);
        line.clear();
    }
    Ok(Finished { status: child.wait()?, said })
}

/// Runs a program without input whose standard output is its answer; the other one is what it has said.
pub(super) fn answer(command: &mut Command) -> std::io::Result<(Finished, Vec<u8>)> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
    Ok((Finished { status, said: String::from_utf8_lossy(&stderr).into_owned() }, stdout))
}

#[cfg(test)]
mod tests {
    use super::run;
    use std::process::Command;

    #[test]
    fn both_outputs_are_heard_in_order_and_it_ends() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        let finished = run(command.args(["-c", "echo a; echo b >&2; printf 'c\\377'; exit 3"]), |line| {
            lines.push(line.to_owned());
        });
        let finished = finished.unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(lines, ["a", "b", "c\u{fffd}"]);
        assert_eq!(finished.last_words(), "a / b / c\u{fffd}");
    }
}
