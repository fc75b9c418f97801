//! `tatara serve` with a directory of its own: on loopback, which from inside QEMU's user network is 10.0.2.2, or at an address.

use crate::tool;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tatara_spec::record::StagedConfig;
use tatara_spec::release::Release;

/// For firmware and iPXE, in a network of the test's own.
pub const HTTP_PORT: u16 = 8080;

/// A running server; it ends with the value.
pub struct Server {
    child: Child,
    dir: tempfile::TempDir,
    /// Port of the HTTPS listener.
    pub https_port: u16,
    /// Port of the HTTP listener for firmware and iPXE.
    pub http_port: u16,
    /// `sha256:HEX` of the CA's public key.
    pub pin: String,
    log: Arc<Mutex<Vec<String>>>,
    release: PathBuf,
    name: String,
}

/// The value of `key=` in a line of `key=value` words.
#[must_use]
pub fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn port(line: &str, key: &str) -> u16 {
    let address = word(line, key).unwrap_or_else(|| panic!("no {key}= in `{line}`"));
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port in `{address}`"))
}

impl Server {
    /// Serves `release` (linked as `release/`) and, later, configs below `nodes/`.
    ///
    /// # Panics
    /// When the server does not start.
    #[must_use]
    pub fn start(release: &Path, kernel_args: &[&str]) -> Self {
        Self::serve(("127.0.0.1", 0), "10.0.2.2", release, kernel_args)
    }

    /// The same, at an address of the test's own network, which machines know by this name or address. Its HTTP is on [`HTTP_PORT`],
    /// which the network's DHCP server must know.
    ///
    /// # Panics
    /// When the server does not start.
    #[must_use]
    pub fn at(listen: &str, name: &str, release: &Path, kernel_args: &[&str]) -> Self {
        Self::serve((listen, HTTP_PORT), name, release, kernel_args)
    }

    fn serve((listen, http_port): (&str, u16), name: &str, release: &Path, kernel_args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let www = dir.path().join("www");
        fs::create_dir_all(www.join("nodes")).expect("the served directory");
        for file in fs::read_dir(release).expect("a release").flatten() {
            let target = www.join("release").join(file.file_name());
            fs::create_dir_all(www.join("release")).expect("release/");
            // Links of the files, so that a test can put another file in the place of one.
            symlink(file.path(), target).expect("a link");
        }
        for name in ["vmlinuz", "initramfs.zst"] {
            symlink(release.join(name), www.join(name)).expect("a link");
        }
        let mut command = Command::new(tool());
        let (listen, http_listen) = (format!("{listen}:0"), format!("{listen}:{http_port}"));
        command.args(["serve", "--listen", &listen, "--http-listen", &http_listen, "--name", name]);
        command.arg("--state").arg(dir.path().join("state"));
        for arg in kernel_args {
            command.arg("--kernel-arg").arg(arg);
        }
        let child =
            command.arg(&www).stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn();
        Self::wait(child.expect("tatara serve"), dir, release.to_owned(), name.to_owned())
    }

    fn wait(mut child: Child, dir: tempfile::TempDir, release: PathBuf, name: String) -> Self {
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let ready = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("tatara: serving"));
        let ready = ready.expect("the server's first line");
        let pin = word(&ready, "pin").expect("the pin").to_owned();
        let log = Arc::new(Mutex::new(Vec::new()));
        // Read to its end: a closed pipe would end the server.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let requests = BufReader::new(child.stderr.take().expect("its access log")).lines();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in requests.map_while(Result::ok) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self {
            child,
            dir,
            https_port: port(&ready, "https"),
            http_port: port(&ready, "http"),
            pin,
            log,
            release,
            name,
        }
    }

    /// The served directory.
    #[must_use]
    pub fn www(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// A scratch directory that lives as long as the server.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Publishes a node's config under its MAC address.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn publish(&self, mac: &str, config: &str) {
        fs::write(self.www().join(format!("nodes/{mac}.yaml")), config).expect("the node's config");
    }

    /// What a node with this MAC address would stage now.
    pub(crate) fn to_be_staged(&self, mac: &str) -> StagedConfig {
        let path = format!("nodes/{mac}.yaml");
        let manifest = fs::read(self.www().join("release/release.json")).expect("the manifest");
        StagedConfig {
            config: fs::read_to_string(self.www().join(&path)).expect("the node's config"),
            signature: None,
            url: format!("https://{}:{}/{path}", self.name, self.https_port),
            keys: [].into(),
            release: Release::parse(&manifest).expect("the manifest").id,
        }
    }

    /// Takes a release's file away.
    ///
    /// # Panics
    /// When it is not there.
    pub fn withhold(&self, name: &str) {
        fs::remove_file(self.www().join("release").join(name)).expect("the release's file");
    }

    /// Puts another file in the place of a release's file.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn replace(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.www().join("release").join(name);
        let bytes = change(fs::read(&path).expect("the release's file"));
        fs::remove_file(&path).expect("the link");
        fs::write(&path, bytes).expect("the changed file");
    }

    /// Puts the release's own file back, in the place of a changed one or of none.
    ///
    /// # Panics
    /// When the file cannot be linked.
    pub fn restore(&self, name: &str) {
        let path = self.www().join("release").join(name);
        let _ = fs::remove_file(&path);
        symlink(self.release.join(name), path).expect("a link");
    }

    /// Publishes the same release under another identity, as a newer build of it would have.
    ///
    /// # Panics
    /// When the manifest cannot be rewritten.
    pub fn other_release(&self) {
        self.replace("release.json", |bytes| {
            let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).expect("the manifest");
            manifest["artifacts"]["grub.cfg.other"] = manifest["artifacts"]["grub.cfg"].clone();
            let mut release: Release = serde_json::from_value(manifest).expect("the manifest");
            release.id = release.compute_id();
            serde_json::to_vec(&release).expect("the manifest")
        });
    }

    /// The kernel arguments that point a machine in QEMU here.
    #[must_use]
    pub fn kernel_args(&self) -> String {
        format!(
            "tatara.config=https://{}:{}/nodes/${{mac}}.yaml tatara.ca={}",
            self.name, self.https_port, self.pin
        )
    }

    /// The access log so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
