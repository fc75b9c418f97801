//! Signatures of configs and releases, in minisign's form.

use minisign_verify::{PublicKey, Signature};
use tatara_spec::{Code, Fault};

/// What a signature is for: it decides the code of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// The node's config.
    Config,
    /// The release manifest.
    Release,
}

impl Signed {
    pub(crate) fn code(self) -> Code {
        match self {
            Signed::Config => Code::ConfigSignature,
            Signed::Release => Code::ReleaseSignature,
        }
    }
}

impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Signed::Config => "config",
            Signed::Release => "release manifest",
        })
    }
}

/// Checks that one of `keys` (base64, as in the second line of a minisign public key file) signed `content`.
/// Returns the signature's trusted comment.
///
/// Only prehashed signatures are taken, minisign's default since 0.8: <https://jedisct1.github.io/minisign/#signature-format>.
///
/// # Errors
/// [`Code::ConfigSignature`] or [`Code::ReleaseSignature`]: a key or the signature cannot be read, or no key fits.
pub fn verify(what: Signed, content: &[u8], signature: &str, keys: &[String]) -> Result<String, Fault> {
    let fault = |message: String| Fault::new(what.code(), message);
    if keys.is_empty() {
        return Err(fault(format!("there is no key to check the {what}'s signature with")));
    }
    let signature = Signature::decode(signature)
        .map_err(|e| Fault::caused(what.code(), format!("the {what}'s signature file is malformed"), e))?;
    for key in keys {
        let public = PublicKey::from_base64(key).map_err(|e| {
            Fault::caused(what.code(), format!("`{key}` is not a minisign public key in base64"), e)
        })?;
        if public.verify(content, &signature, false).is_ok() {
            return Ok(signature.trusted_comment().to_owned());
        }
    }
    Err(fault(format!(
        "the {what}'s signature was not made by {}, or the {what} was changed",
        keys.join(" or ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;

    fn signed(pair: &KeyPair, content: &[u8]) -> String {
        minisign::sign(Some(&pair.pk), &pair.sk, content, Some("node 7"), None).unwrap().into_string()
    }

    #[test]
    fn takes_any_of_the_keys_and_nothing_else() {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let other = KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = signed(&pair, b"kind: NodeConfig");
        let keys = [other.pk.to_base64(), pair.pk.to_base64()];
        assert_eq!(verify(Signed::Config, b"kind: NodeConfig", &signature, &keys).unwrap(), "node 7");

        let changed = verify(Signed::Config, b"kind: nodeConfig", &signature, &keys).unwrap_err();
        assert_eq!(changed.code, Code::ConfigSignature);
        let foreign = verify(Signed::Release, b"kind: NodeConfig", &signature, &keys[..1]).unwrap_err();
        assert_eq!(foreign.code, Code::ReleaseSignature);
        assert!(foreign.message.contains(&keys[0]), "{}", foreign.message);
    }

    #[test]
    fn refuses_without_a_key_and_with_a_malformed_one() {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = signed(&pair, b"x");
        let none = verify(Signed::Release, b"x", &signature, &[]).unwrap_err();
        assert_eq!(none.code, Code::ReleaseSignature);
        let bad = verify(Signed::Release, b"x", &signature, &["RWQ".to_owned()]).unwrap_err();
        assert!(bad.message.contains("`RWQ`"), "{}", bad.message);
        let garbage = verify(Signed::Config, b"x", "<html>", &[pair.pk.to_base64()]).unwrap_err();
        assert!(garbage.message.contains("malformed"), "{}", garbage.message);
    }
}
