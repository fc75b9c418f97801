//! What servers have for a node — its config, its release, its users' SSH keys — and how each is known to be genuine. PID 1 and the node
//! fetch them by the same functions, so neither takes what the other refuses.

use crate::fetch::{Authenticity, Client, File};
use crate::signature::{self, Signed};
use reqwest::Url;
use std::collections::BTreeMap;
use tatara_spec::config::{self, NodeConfig};
use tatara_spec::release::Release;
use tatara_spec::{Code, Fault, redact};

/// The manifest of a 100 GiB root would be smaller.
const MANIFEST_LIMIT: u64 = 16 << 20;
/// A minisign signature file has about 300 bytes.
const SIGNATURE_LIMIT: u64 = 4096;
/// GitHub's largest key lists are a tenth of this.
const KEYS_LIMIT: u64 = 64 << 10;

/// SSH keys by the URL that they were fetched from.
pub type SshKeys = BTreeMap<String, Vec<String>>;

/// A config as served, by its way or by its signature genuine. Nobody has parsed it yet.
pub struct ServedConfig {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its signature file, where one is wanted.
    pub signature: Option<String>,
}

/// Fetches a config. With `signers` (minisign public keys) one of these must have signed it, and http:// will do.
///
/// # Errors
/// As [`Client::get`]; [`Code::ConfigSignature`].
pub fn config(client: &Client, url: &str, signers: &[String]) -> Result<ServedConfig, Fault> {
    let limit = config::SIZE_MAX_BYTES as u64;
    let file = File { url, what: "config", limit, authenticity: authenticity(signers) };
    let bytes = client.get(&file)?;
    let signature = check_signature(client, Signed::Config, &file, &bytes, signers)?;
    Ok(ServedConfig { bytes, signature })
}

/// Fetches the manifest of the release that a config names, which came from `from`; gives its URL, too.
///
/// # Errors
/// As [`Client::get`]; [`Code::UrlBad`], [`Code::ReleaseSignature`], [`Code::ReleaseBad`], [`Code::ReleaseOld`].
pub fn release(
    client: &Client,
    from: &Url,
    config: &NodeConfig,
    signers: &[String],
) -> Result<(Release, Url), Fault> {
    let reference = &config.install.release;
    let url = from.join(&reference.url).map_err(|e| {
        let shown = redact::url(&reference.url);
        Fault::caused(Code::UrlBad, format!("install.release.url `{shown}` is not a URL"), e)
    })?;
    // The config is genuine by now: a key that it names is the one that counts.
    let signers = reference.key.as_ref().map_or(signers, std::slice::from_ref);
    let file = File {
        url: url.as_str(),
        what: "release manifest",
        limit: MANIFEST_LIMIT,
        authenticity: authenticity(signers),
    };
    let text = client.get(&file)?;
    check_signature(client, Signed::Release, &file, &text, signers)?;
    let manifest = Release::parse(&text)?;
    manifest.check_age(reference.not_before.as_deref())?;
    Ok((manifest, url))
}

/// Fetches the SSH keys that a config points at.
///
/// # Errors
/// As [`Client::get`].
pub fn ssh_keys(client: &Client, config: &NodeConfig) -> Result<SshKeys, Fault> {
    let mut keys = SshKeys::new();
    for url in config.users.iter().filter_map(|user| user.keys_url.as_deref()) {
        let file = File { url, what: "SSH keys", limit: KEYS_LIMIT, authenticity: Authenticity::Connection };
        let text = client.get(&file)?;
        let lines = String::from_utf8_lossy(&text);
        let list = lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        keys.insert(url.to_owned(), list.map(str::to_owned).collect());
    }
    Ok(keys)
}

/// With keys the signature vouches for the content, whatever the way.
fn authenticity(signers: &[String]) -> Authenticity {
    if signers.is_empty() { Authenticity::Connection } else { Authenticity::Content }
}

/// The signature file beside `file`, checked; `None` where none is wanted.
fn check_signature(
    client: &Client,
    what: Signed,
    file: &File<'_>,
    bytes: &[u8],
    signers: &[String],
) -> Result<Option<String>, Fault> {
    if signers.is_empty() {
        return Ok(None);
    }
    let url = format!("{}.sig", file.url);
    let name = format!("signature of the {}", file.what);
    let signature =
        File { url: &url, what: &name, limit: SIGNATURE_LIMIT, authenticity: Authenticity::Content };
    // A signature that is not there is a missing signature, not a web server's problem.
    let text = client.get(&signature).map_err(|fault| match fault.code {
        Code::HttpStatus => Fault::caused(what.code(), format!("the {} must be signed", file.what), fault),
        _ => fault,
    })?;
    let text = String::from_utf8_lossy(&text).into_owned();
    signature::verify(what, bytes, &text, signers)?;
    Ok(Some(text))
}
