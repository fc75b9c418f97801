//! Logging in to a machine over SSH, with OpenSSH's client.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A key pair of its own.
pub struct Key {
    path: PathBuf,
    // Removed with the value, unless the key is to be kept.
    own_dir: Option<tempfile::TempDir>,
}

/// What a login came to.
#[derive(Debug)]
pub struct Login {
    /// Exit status 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Login {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// One connection for all commands of a user: an emulated machine takes seconds for each new one. It ends by itself with the machine,
/// or when it has not been used for this many seconds.
const SHARED: [&str; 2] = ["ControlMaster=auto", "ControlPersist=60"];

impl Key {
    /// Makes an Ed25519 key pair.
    ///
    /// # Panics
    /// When ssh-keygen cannot be run.
    #[must_use]
    pub fn generate() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("key");
        make(&path);
        Self { path, own_dir: Some(dir) }
    }

    /// The key pair in a directory, made when it is not there.
    ///
    /// # Panics
    /// When ssh-keygen cannot be run.
    #[must_use]
    pub fn in_directory(dir: &Path) -> Self {
        let path = dir.join("key");
        if !path.exists() {
            make(&path);
        }
        Self { path, own_dir: None }
    }

    /// The public key as in authorized_keys(5).
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn public(&self) -> String {
        std::fs::read_to_string(self.path.with_extension("pub")).expect("the public key").trim().to_owned()
    }

    /// Runs a command as a user by this key.
    ///
    /// # Panics
    /// When ssh cannot be run.
    #[must_use]
    pub fn login(&self, user: &str, port: u16, command: &str) -> Login {
        self.login_at(user, "127.0.0.1", port, command)
    }

    /// The same at another address than loopback.
    ///
    /// # Panics
    /// When ssh cannot be run.
    #[must_use]
    pub fn login_at(&self, user: &str, host: &str, port: u16, command: &str) -> Login {
        let mut options = ["IdentitiesOnly=yes", "BatchMode=yes"].map(str::to_owned).to_vec();
        if let Some(dir) = &self.own_dir {
            options.extend(SHARED.map(str::to_owned));
            options.push(format!("ControlPath={}/%C", dir.path().display()));
        }
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option.as_str()]).collect();
        ssh(user, host, port, &options, Some(&self.path), command)
    }
}

fn make(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(status.expect("ssh-keygen").success(), "ssh-keygen failed");
}

/// The methods by which the server would let somebody in without a key, as its refusal names them.
///
/// # Panics
/// When ssh cannot be run.
#[must_use]
pub fn without_key(user: &str, port: u16) -> Login {
    let options = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=0"];
    ssh(user, "127.0.0.1", port, &options, None, "true")
}

fn ssh(user: &str, host: &str, port: u16, options: &[&str], key: Option<&Path>, command: &str) -> Login {
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    ssh.args(["-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"]).args(options);
    if let Some(key) = key {
        ssh.arg("-i").arg(key);
    }
    ssh.args(["-p", &port.to_string(), &format!("{user}@{host}"), command]);
    ssh.stdin(std::process::Stdio::null()).output().expect("ssh").into()
}
