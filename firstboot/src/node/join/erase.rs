//! Erases the join's secrets from the node's copy of the config.
//!
//! In place, and to the same length: the bytes on the disk are overwritten, not left in a block that nobody uses any more, and what a
//! power cut leaves half done is still a config.

use crate::node::Node;
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use tatara_firstboot::cluster;
use tatara_spec::config::{self, Join};
use tatara_spec::layout::state;
use tatara_spec::{Code, Fault};

pub(super) fn secrets(node: &Node, join: &Join) -> Result<(), Fault> {
    let secrets = secrets_of(join);
    if secrets.is_empty() {
        return Ok(());
    }
    in_file(&node.state(state::CONFIG), &secrets)
}

/// What a config is when the secrets of its join are erased; `None` when that could not be.
pub(in crate::node) fn without_secrets(bytes: &[u8], join: &Join) -> Option<Vec<u8>> {
    overwritten(bytes, &secrets_of(join))
}

/// The secrets that are still there.
fn secrets_of(join: &Join) -> Vec<String> {
    let mut secrets: Vec<String> = join.token.iter().map(|token| token.reveal().to_owned()).collect();
    secrets.extend(join.discovery_file.iter().flat_map(|file| cluster::secrets(file.reveal())));
    secrets.extend(join.identity.iter().flat_map(|pem| key_lines(pem.reveal())));
    secrets.retain(|secret| *secret != erased(secret));
    secrets
}

/// The lines of a private key in PEM (RFC 7468). A short one, at its end, could be found elsewhere by chance, and tells nothing.
fn key_lines(pem: &str) -> Vec<String> {
    const LONG_BYTES: usize = 16;
    let mut inside = false;
    let mut lines = Vec::new();
    for line in pem.lines().map(str::trim) {
        if line.starts_with("-----") {
            inside = line.starts_with("-----BEGIN") && line.ends_with("PRIVATE KEY-----");
        } else if inside && line.len() >= LONG_BYTES {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// What is left of a secret: of the same form, so that the config stays one.
fn erased(secret: &str) -> String {
    secret.chars().map(|c| if c.is_ascii_alphanumeric() { '0' } else { c }).collect()
}

fn in_file(path: &Path, secrets: &[String]) -> Result<(), Fault> {
    let failed =
        |error: std::io::Error| Fault::caused(Code::JoinErase, format!("erase in {}", path.display()), error);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    let Some(clean) = overwritten(&bytes, secrets) else {
        let message = format!(
            "a secret of {} is not written there as it is read (escapes, or broken lines)",
            path.display()
        );
        return Err(Fault::new(Code::JoinErase, message));
    };
    if config::parse("config", &clean).is_err() && config::parse("config", &bytes).is_ok() {
        return Err(Fault::new(Code::JoinErase, format!("{} would be no config any more", path.display())));
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.write_all(&clean).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// The same bytes without the secrets; `None` when one of them is in none of the places where it was read.
fn overwritten(bytes: &[u8], secrets: &[String]) -> Option<Vec<u8>> {
    let mut clean = bytes.to_vec();
    for secret in secrets {
        let blank = erased(secret).into_bytes();
        let length = blank.len();
        let mut found = false;
        for at in 0..clean.len().saturating_sub(length - 1) {
            if clean[at..at + length] == *secret.as_bytes() {
                clean[at..at + length].copy_from_slice(&blank);
                found = true;
            }
        }
        if !found {
            return None;
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::{overwritten, secrets};
    use crate::node::Node;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use tatara_spec::config;

    const CONFIG: &str = "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: n}\n\
         install: {release: {url: r.json}}\nkubernetes:\n  endpoint: api:6443\n  join:\n    token: abcdef.0123456789abcdef # abcdef.0123456789abcdef\n\
         \x20   caCertHashes: [sha256:0123456789012345678901234567890123456789012345678901234567890123]\n";

    #[test]
    fn the_token_is_overwritten_where_it_is_and_twice_is_harmless() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("var/lib/tatara/config.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, CONFIG).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let node = Node::new(root.path().to_owned());
        for _ in 0..2 {
            let join = node.config().unwrap().kubernetes.unwrap().join;
            secrets(&node, &join).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("abcdef.") && !text.contains("0123456789abcdef"), "{text}");
        assert_eq!(text.len(), CONFIG.len());
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the same blocks");
        assert!(config::parse("x", text.as_bytes()).is_ok());
    }

    /// What is left of the key is still PEM, so that the config stays one.
    #[test]
    fn the_key_of_an_identity_is_overwritten_and_its_certificate_is_not() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let indented: String =
            format!("{certificate}{key}").lines().map(|line| format!("      {}\n", line.trim())).collect();
        let identity = format!("    tokenFrom: https://tokens.example.com/n\n    identity: |\n{indented}");
        let text =
            CONFIG.replace("    token: abcdef.0123456789abcdef # abcdef.0123456789abcdef\n", &identity);
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("var/lib/tatara/config.yaml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        let node = Node::new(root.path().to_owned());
        for _ in 0..2 {
            let join = node.config().unwrap().kubernetes.unwrap().join;
            secrets(&node, &join).unwrap();
        }
        let left = fs::read_to_string(&path).unwrap();
        let body = |pem: &str| pem.lines().nth(1).unwrap().trim().to_owned();
        assert!(!left.contains(&body(&key)) && left.contains(&body(&certificate)), "{left}");
        assert_eq!(left.len(), text.len());
    }

    #[test]
    fn a_secret_that_is_not_found_is_said() {
        assert_eq!(overwritten(b"abc", &["xyz".to_owned()]), None);
        assert_eq!(overwritten(b"a+b/c= a+b/c=", &["a+b/c=".to_owned()]).unwrap(), b"0+0/0= 0+0/0=");
    }
}
