//! Keys of minisign(1), and what they sign.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A key pair; it is gone with the value.
pub struct Signer {
    dir: tempfile::TempDir,
    /// The public key, as `tatara.key=` and `install.release.key` take it.
    pub public: String,
}

impl Signer {
    /// Makes one.
    ///
    /// # Panics
    /// When minisign cannot be run.
    #[must_use]
    pub fn generate() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        minisign(dir.path(), &["-G", "-W", "-p", "public", "-s", "secret"]);
        let public = fs::read_to_string(dir.path().join("public")).expect("the public key");
        // The first line is a comment.
        let public = public.lines().nth(1).expect("the key").to_owned();
        Self { dir, public }
    }

    /// The signature of these bytes: what a `.sig` beside them holds.
    ///
    /// # Panics
    /// When minisign does not sign them.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        fs::write(self.dir.path().join("file"), bytes).expect("the file to sign");
        minisign(self.dir.path(), &["-S", "-s", "secret", "-m", "file", "-x", "file.sig"]);
        fs::read(self.dir.path().join("file.sig")).expect("the signature")
    }
}

fn minisign(dir: &Path, arguments: &[&str]) {
    let output = Command::new("minisign").args(arguments).current_dir(dir).output().expect("minisign");
    assert!(output.status.success(), "minisign: {}", String::from_utf8_lossy(&output.stderr));
}
