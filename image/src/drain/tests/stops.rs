//! What ends a drain before its time.

use super::play::{Cli, Play, Stage, play, pod, status};
use crate::drain::run;
use clap::Parser as _;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tatara_spec::error::Code;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

/// The directory of a drain that a test runs in a process of its own: where its kubeconfig is, and where it says how it ended.
const CHILD: &str = "TATARA_TEST_DRAIN";

/// A pod that is never let go; what is done at each try.
fn held(tried: impl Fn() + Send + Sync + 'static) -> Play {
    let pods = [pod("a")];
    let instead = move |asked: &str, _| {
        asked.ends_with("/eviction").then(|| {
            tried();
            status(429, "the budget needs it", &json!([]))
        })
    };
    Play { instead: Box::new(instead), ..play(&pods, &pods) }
}

fn told() -> (impl Fn() + Send + Sync, Receiver<()>) {
    let (tell, told) = channel();
    let tell = move || {
        // Only the first one is waited for.
        let _ = tell.send(());
    };
    (tell, told)
}

#[test]
fn a_termination_is_heard() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir));
    }
    let (tell, told) = told();
    let (stage, server) = Stage::set(held(tell), &json!({"token": "swordfish"}));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "drain::tests::stops::a_termination_is_heard"]).env(CHILD, stage.dir.path());
    let mut child = command.spawn().unwrap();
    told.recv_timeout(SOON).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait().unwrap();
    let said = fs::read_to_string(stage.dir.path().join("said")).unwrap_or_default();
    assert!(
        ended.success() && said.contains("not drained (terminated); it stays cordoned"),
        "{ended}: {said}"
    );
    assert!(server.asked("DELETE").is_empty());
}

fn child(dir: &Path) {
    let kubeconfig = dir.join("config");
    let given =
        ["drain", "--yes", "--timeout", "60s", "node-1", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let error = run(&Cli::try_parse_from(given).unwrap().args).unwrap_err();
    fs::write(dir.join("said"), error.to_string()).unwrap();
}

#[test]
fn a_drain_whose_time_is_over_deletes_no_node() {
    // The second list of volumes is asked for again after a second.
    let instead = |asked: &str, before: usize| {
        let busy = asked.ends_with("/persistentvolumes") && before == 1;
        busy.then(|| status(503, "busy", &json!([])))
    };
    let play = Play { instead: Box::new(instead), ..play(&[], &[]) };
    let (stage, server) = Stage::set(play, &json!({"token": "swordfish"}));
    let fault = stage.drain(&["node-1", "--timeout", "100ms"]).unwrap_err();
    assert_eq!(fault.code, Code::DrainLeft);
    assert!(fault.message.contains("not within 100ms") && fault.message.contains("no pods are left"));
    assert!(server.asked("DELETE").is_empty());
}

/// A credential plugin whose credentials are old at once, and which never answers when there is a file `hang`: until `release` goes.
struct Plugin {
    dir: TempDir,
    _release: File,
}

impl Plugin {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let fifo = dir.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let release = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
            "status": {"token": "swordfish", "expirationTimestamp": "2026-01-01T00:00:00Z"},
        });
        fs::write(dir.path().join("credential"), credential.to_string()).unwrap();
        let script = "cd $1\nif [ -e hang ]; then read never <fifo; fi\ncat credential\n";
        fs::write(dir.path().join("plugin"), script).unwrap();
        Self { dir, _release: release }
    }

    fn user(&self) -> Value {
        let (script, dir) = (self.dir.path().join("plugin"), self.dir.path());
        json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": [script, dir],
        }})
    }
}

#[test]
fn the_end_waits_for_no_credential_plugin() {
    let plugin = Plugin::new();
    let hang = plugin.dir.path().join("hang");
    let (stage, _) = Stage::set(held(move || fs::write(&hang, "").unwrap()), &plugin.user());
    let (tell, told) = channel();
    std::thread::spawn(move || tell.send(stage.drain(&["node-1", "--timeout", "2s"])));
    let fault = told.recv_timeout(SOON).expect("it hangs").unwrap_err();
    assert_eq!(fault.code, Code::DrainLeft);
    assert!(fault.message.contains("not within 2s"), "{}", fault.message);
}
