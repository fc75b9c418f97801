//! Running kubeadm, and what its words mean.

use super::credential::Credential;
use super::health;
use crate::node::console::announce;
use crate::node::system::{self, Finished, System};
use crate::node::{Node, write_whole};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tatara_firstboot::render::kubernetes::{Discovery, join_configuration};
use tatara_spec::config::NodeConfig;
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::release::Runtime;
use tatara_spec::{Code, Fault};

/// In memory only, and only while kubeadm runs.
const CONFIG: &str = "/run/tatara/kubeadm-join.json";
const DISCOVERY: &str = "/run/tatara/kubeadm-discovery.conf";

/// kubeadm writes the credential here for the kubelet, and removes it when the kubelet has a certificate. On the state partition its bytes
/// would stay on the disk; so it is a link into memory.
const BOOTSTRAP: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
const BOOTSTRAP_TARGET: &str = "/run/tatara/bootstrap-kubelet.conf";

/// Stands where a secret was.
const HIDDEN: &str = "(secret)";

pub(super) fn join(
    node: &Node,
    system: &System,
    config: &NodeConfig,
    (version, runtime): (Version, Runtime),
    credential: &Credential,
) -> Result<(), Fault> {
    let discovery_path = node.run(DISCOVERY);
    let discovery_text = discovery_path.display().to_string();
    let discovery = match credential {
        Credential::Token(token) => Discovery::Token(token),
        Credential::File(text) => {
            write_whole(&discovery_path, text.as_bytes(), 0o600)?;
            Discovery::File(&discovery_text)
        }
    };
    let path = node.run(CONFIG);
    write_whole(&path, join_configuration(config, version, runtime, discovery)?.as_bytes(), 0o600)?;
    let (bootstrap, target) = (node.run(BOOTSTRAP), node.run(BOOTSTRAP_TARGET));
    link_into_memory(&bootstrap, &target)?;
    let mut command = Command::new(&system.kubeadm);
    command.arg("join").arg("--config").arg(&path);
    let secrets = credential.secrets();
    let finished = run(&mut command, &secrets, |line| {
        // Which phase it is in, and not its warnings: it may take minutes.
        if line.starts_with('[') {
            announce(node, &format!("tatara: kubeadm: {line}"));
        }
    });
    for path in [&path, &discovery_path, &bootstrap, &target] {
        // What is left is in /run, which ends with this boot, or leads there; the next attempt makes it anew.
        let _ = fs::remove_file(path);
    }
    let finished = finished?;
    if finished.status.success() { Ok(()) } else { Err(of_kubelet(system, &finished)) }
}

/// kubeadm waits for the kubelet in more than one way, and says only that nothing came; the kubelet knows why.
fn of_kubelet(system: &System, finished: &Finished) -> Fault {
    let fault = explain(finished);
    if fault.code == Code::Kubelet || (waited_for_kubelet(&fault, finished) && !health::is_healthy(system)) {
        // Of kubeadm's last words, which the journal has, all are advice.
        let message = format!("kubeadm join ended with {}: the kubelet is not healthy", finished.status);
        return health::in_its_words(system, Fault::new(Code::Kubelet, message));
    }
    fault
}

/// In a phase `kubelet-start`, or since 1.31 `kubelet-wait-bootstrap` (Kubernetes, cmd/kubeadm/app/cmd/phases/join).
fn waited_for_kubelet(fault: &Fault, finished: &Finished) -> bool {
    fault.code == Code::Join && finished.said.contains("error execution phase kubelet-")
}

/// Until something is written through it, the link leads nowhere, and kubeadm's checks find no file.
fn link_into_memory(link: &Path, target: &Path) -> Result<(), Fault> {
    let failed = |error: std::io::Error| Fault::caused(Code::Join, format!("make {}", link.display()), error);
    if let Some(directory) = link.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    for path in [link, target] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    symlink(target, link).map_err(failed)
}

/// Takes away what a join has left: stops the kubelet, removes its files and kubeadm's.
pub(super) fn reset(system: &System, runtime: Runtime) -> Result<(), Fault> {
    let mut command = Command::new(&system.kubeadm);
    command.args(["reset", "--force", "--cri-socket"]).arg(format!("unix://{}", runtime.socket()));
    let finished = run(&mut command, &[], |_| ())?;
    if finished.status.success() {
        return Ok(());
    }
    let message = format!("kubeadm reset ended with {}: {}", finished.status, finished.last_words());
    Err(Fault::new(Code::Join, message))
}

/// Its words go to the journal as they come, without the secrets.
fn run(command: &mut Command, secrets: &[String], heard: impl Fn(&str)) -> Result<Finished, Fault> {
    let mut finished = system::run(command, |line| {
        let line = hide(line, secrets);
        let _ = writeln!(std::io::stdout(), "kubeadm: {line}");
        heard(&line);
    })
    .map_err(|error| Fault::caused(Code::Join, "run kubeadm", error))?;
    finished.said = hide(&finished.said, secrets);
    Ok(finished)
}

fn hide(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
}

/// A code for kubeadm's words.
fn explain(finished: &Finished) -> Fault {
    let said = &finished.said;
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    // `[ERROR NAME]: why`, one a line (Kubernetes, cmd/kubeadm/app/preflight, RunChecks).
    let checks: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("[ERROR ")).collect();
    if !checks.is_empty() {
        return Fault::new(Code::JoinPreflight, checks.join(" / "));
    }
    let code = if has(&["and status \"Ready\" already exists"]) {
        Code::JoinName
    } else if has(&["is not pinned", "are pinned", "cluster CA found in cluster-info"]) {
        Code::JoinCa
    } else if has(&["could not find a JWS signature", "Unauthorized", "invalid bearer token"]) {
        Code::JoinToken
    } else if has(&[
        "The kubelet is not running",
        "kubelet isn't running or healthy",
        "kubelet is not healthy",
    ]) {
        Code::Kubelet
    } else {
        Code::Join
    };
    Fault::new(code, format!("kubeadm join ended with {}: {}", finished.status, finished.last_words()))
}

#[cfg(test)]
mod tests {
    use super::{explain, hide, waited_for_kubelet};
    use crate::node::system::Finished;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use tatara_spec::Code;

    #[test]
    fn words_have_codes() {
        for (said, code) in [
            (
                "error execution phase kubelet-start: a Node with name \"n\" and status \"Ready\" already exists in the cluster.",
                Code::JoinName,
            ),
            (
                "[preflight] Some fatal errors occurred:\n\t[ERROR CRI]: container runtime is not running\n\t[ERROR Port-10250]: Port 10250 is in use",
                Code::JoinPreflight,
            ),
            (
                "could not find a JWS signature in the cluster-info ConfigMap for token ID \"abcdef\"",
                Code::JoinToken,
            ),
            (
                "cluster CA found in cluster-info ConfigMap is invalid: none of the public keys \"sha256:1\" are pinned",
                Code::JoinCa,
            ),
            ("error uploading crisocket: timed out waiting for the condition", Code::Join),
        ] {
            let fault = explain(&Finished { status: ExitStatus::from_raw(256), said: said.to_owned() });
            assert_eq!(fault.code, code, "{said}");
        }
    }

    #[test]
    fn phases_that_wait_for_the_kubelet() {
        for (phase, waits) in [
            ("kubelet-start", true),
            ("kubelet-wait-bootstrap", true),
            ("control-plane-prepare/certs", false),
        ] {
            let said = format!("error execution phase {phase}: timed out waiting for the condition");
            let finished = Finished { status: ExitStatus::from_raw(256), said };
            assert_eq!(waited_for_kubelet(&explain(&finished), &finished), waits, "{phase}");
        }
    }

    #[test]
    fn secrets_are_hidden() {
        let secrets = ["abcdef.0123456789abcdef".to_owned()];
        assert_eq!(hide("--token abcdef.0123456789abcdef x", &secrets), "--token (secret) x");
    }
}
