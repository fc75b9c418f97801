//! The signature of a release: Ed25519 in minisign's form, so that minisign(1) can make and check it too.

use anyhow::{Context as _, Result, anyhow};
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox, SignatureBox};
use std::fs::{self, OpenOptions};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A release's signing key.
pub(crate) struct Signer {
    secret: SecretKey,
    public: PublicKey,
}

impl Signer {
    /// Reads a secret key as minisign writes it. A password is asked for when it has one.
    ///
    /// # Errors
    /// The file cannot be read or is no secret key.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        // Without a password first: the library refuses to try such a key with one, and only then asks for it.
        let secret = SecretKeyBox::from_string(&text)
            .and_then(SecretKey::from_unencrypted_box)
            .or_else(|_| SecretKeyBox::from_string(&text).and_then(|key| SecretKey::from_box(key, None)))
            .map_err(|error| anyhow!("{error}"))
            .with_context(|| format!("{} is not a usable minisign secret key", path.display()))?;
        let public = PublicKey::from_secret_key(&secret).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { secret, public })
    }

    /// The key that is kept in a directory, made at the first call: without a password, mode 0600.
    ///
    /// # Errors
    /// The directory cannot be written, or what is there is no key.
    pub(crate) fn kept_in(directory: &Path) -> Result<Self> {
        let path = directory.join("release.key");
        if !path.exists() {
            make(&path)?;
        }
        Self::read(&path)
    }

    /// Signs data and gives the text of the signature file. The comment is covered by the signature.
    ///
    /// # Errors
    /// No random numbers.
    pub(crate) fn sign(&self, data: &[u8], comment: &str) -> Result<String> {
        let signature = minisign::sign(
            Some(&self.public),
            &self.secret,
            Cursor::new(data),
            Some(comment),
            Some("signature of a tatara release"),
        );
        Ok(signature.map_err(|error| anyhow!("{error}")).context("cannot sign the release")?.into_string())
    }

    /// The public key in minisign's base64 form, as `install.release.key` and `tatara.key=` take it.
    pub(crate) fn public(&self) -> String {
        self.public.to_base64()
    }
}

fn make(path: &Path) -> Result<()> {
    let pair = KeyPair::generate_unencrypted_keypair().map_err(|error| anyhow!("{error}"))?;
    let text = |value: minisign::Result<String>| value.map_err(|error| anyhow!("{error}"));
    let secret = text(pair.sk.to_box(Some("tatara release key")).map(|key| key.to_string()))?;
    let public = text(pair.pk.to_box().map(|key| key.to_string()))?;
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    // Never overwritten: nodes trust the key that is there.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(secret.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write the signing key {}", path.display()))?;
    let beside = path.with_extension("pub");
    fs::write(&beside, public).with_context(|| format!("cannot write {}", beside.display()))
}

/// `$XDG_STATE_HOME/tatara` or `~/.local/state/tatara`: a key is not something that can be made again, so not the cache.
///
/// # Errors
/// No home directory is known.
pub(crate) fn state_directory() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("tatara"))
        .context("neither XDG_STATE_HOME nor HOME is set: give a key with --sign-key FILE")
}

/// Checks a signature file's text against data and a public key in base64.
///
/// # Errors
/// Key or signature cannot be parsed, or the signature is not this key's over this data.
pub(crate) fn verify(data: &[u8], signature: &str, key: &str) -> Result<()> {
    let key = PublicKey::from_base64(key).map_err(|error| anyhow!("{error}")).context("not a public key")?;
    let signature = SignatureBox::from_string(signature)
        .map_err(|error| anyhow!("{error}"))
        .context("not a minisign signature")?;
    minisign::verify(&key, &signature, Cursor::new(data), true, false, false)
        .map_err(|error| anyhow!("{error}"))
}

/// Reads a public key: the file that minisign writes, or its base64 line alone.
///
/// # Errors
/// The file cannot be read or has no public key.
pub(crate) fn read_public(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let key = PublicKey::from_base64(line)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("{} has no minisign public key", path.display()))?;
    Ok(key.to_base64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_kept_key_is_made_once_and_private() {
        let state = tempfile::tempdir().unwrap();
        let first = Signer::kept_in(&state.path().join("tatara")).unwrap().public();
        let again = Signer::kept_in(&state.path().join("tatara")).unwrap().public();
        assert_eq!(first, again);
        let mode = fs::metadata(state.path().join("tatara/release.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read_public(&state.path().join("tatara/release.pub")).unwrap(), first);
    }

    #[test]
    fn changed_data_and_another_key_are_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let signer = Signer::kept_in(one.path()).unwrap();
        let other = Signer::kept_in(two.path()).unwrap();
        let signature = signer.sign(b"manifest", "a comment").unwrap();
        verify(b"manifest", &signature, &signer.public()).unwrap();
        assert!(verify(b"manifesT", &signature, &signer.public()).is_err());
        assert!(verify(b"manifest", &signature, &other.public()).is_err());
        let forged = signature.replace("a comment", "b comment");
        assert!(verify(b"manifest", &forged, &signer.public()).is_err());
    }
}
