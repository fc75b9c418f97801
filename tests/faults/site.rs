//! A machine whose config and release come from a web server of the test's own.

use crate::direct;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Guest, Setup, Start};
use support::release;
use support::trial::{Disks, Trial};
use support::web::Web;

/// Where the config is.
pub(crate) const CONFIG: &str = "/node.yaml";

/// The small payload installs and boots within this.
const INSTALL: Duration = Duration::from_secs(200);

/// The server, and what it serves: `node.yaml` and `release/`.
pub(crate) struct Site {
    pub(crate) web: Web,
    host: String,
    dir: tempfile::TempDir,
}

impl Site {
    /// For machines in QEMU's user network.
    pub(crate) fn new() -> Self {
        let dir = directory();
        Self { web: Web::on_loopback(dir.path()), host: "10.0.2.2".to_owned(), dir }
    }

    /// On this address of the host, known to the machine as `host`.
    pub(crate) fn at(bind: IpAddr, host: &str) -> Self {
        let dir = directory();
        let web = Web::start(dir.path(), bind, host.trim_matches(['[', ']']));
        Self { web, host: host.to_owned(), dir }
    }

    /// The URL of a file.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.host, self.web.port())
    }

    /// Puts a file beside the config, or another config.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.file(path), bytes).expect("a served file");
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// The machine, with these kernel arguments beside those that point it here.
    pub(crate) fn machine(&self, setup: &Setup, args: &str) -> Setup {
        self.machine_on(setup, &["tty0", "ttyS0"], &format!("panic=10 {args}"))
    }

    /// The same with these consoles, and no argument of its own.
    pub(crate) fn machine_on(&self, setup: &Setup, consoles: &[&str], args: &str) -> Setup {
        let release = release::small();
        let consoles: String = consoles.iter().map(|name| format!("console={name} ")).collect();
        let append =
            format!("{consoles}tatara.config={} tatara.ca={} {args}", self.url(CONFIG), self.web.pki.pin());
        let (kernel, initramfs) = (release.join("vmlinuz"), release.join("initramfs.zst"));
        setup.again(Start::Given).given(&kernel, &initramfs, append.trim_end())
    }

    /// A row of [`Self::machine`].
    pub(crate) fn trial(&self, area: &'static str, done: &'static str, args: &str) -> Trial {
        Trial::new(area, done, self.machine(&direct(), args))
    }
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    symlink(release::small(), dir.path().join("release")).expect("a link");
    std::fs::write(dir.path().join("node.yaml"), config().text()).expect("the config");
    dir
}

/// The right config.
pub(crate) fn config() -> NodeYaml {
    NodeYaml::new("node-1")
}

pub(crate) fn start(trial: &Trial) -> Guest {
    Guest::start(&trial.setup, None)
}

/// The fault is over, or was none: the machine reads its config. It is not waited for the install, which other rows are about.
pub(crate) fn gets_its_config(trial: Trial, guest: Guest) {
    guest.expect("step=config state=ok", INSTALL);
    trial.ends(guest, Disks::Irrelevant);
}

/// The same, to the end.
pub(crate) fn installs(trial: Trial, guest: Guest) {
    guest.expect("step=record state=ok", INSTALL);
    assert_eq!(guest.findings(INSTALL)["texts"]["/etc/hostname"], "node-1");
    trial.ends(guest, Disks::Installed);
}
