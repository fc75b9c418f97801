//! Upstream's release files: `SITE/vVERSION/bin/linux/amd64/PROGRAM`, each with its digest beside it as `PROGRAM.sha256`.
//!
//! Source: <https://kubernetes.io/releases/download/#binaries>. Which versions there are, `SITE/stable.txt` (the newest) and
//! `SITE/stable-1.34.txt` (the newest of a minor) say: `v1.34.2`.
//! Source: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-release/kubernetes-versions.md>.

use anyhow::{Context as _, Error, Result, anyhow, bail};
use reqwest::{Client, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use tatara_spec::release::Digest;

/// Where upstream publishes.
pub(super) const SITE: &str = "https://dl.k8s.io/release";

/// A server that says nothing for so long says nothing more.
const SILENCE: Duration = Duration::from_secs(60);

/// No digest and no version is longer, in bytes.
const WORD_MAX_BYTES: usize = 4096;

/// Of so many minors the newest patch is listed: those that upstream supports, and the one before
/// (<https://kubernetes.io/releases/version-skew-policy/#supported-versions>: three).
const MINORS: usize = 4;

/// How a version is given, for whoever cannot be shown one.
const FORM: &str = "a version has three numbers, such as --kubernetes release:1.34.2";

/// Fetches programs into a directory and verifies each against its digest.
///
/// # Errors
/// A file cannot be fetched, or is not what its digest says; it is then not in the directory.
pub(super) fn fetch(site: &str, version: &str, programs: &[&str], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let https = Https::new()?;
    for program in programs {
        let url = file(site, version, program);
        let path = directory.join(program);
        https
            .runtime
            .block_on(program_file(&https.client, &url, &path))
            .inspect_err(|_| drop(fs::remove_file(&path)))
            .with_context(|| format!("cannot fetch {url}"))?;
    }
    Ok(())
}

/// Asks upstream for a version before anything is made with it.
///
/// # Errors
/// Upstream has no such version, and the error lists those that are newest; or upstream cannot be asked.
pub(super) fn check(site: &str, version: &str) -> Result<()> {
    let https = Https::new()?;
    let url = file(site, version, "kubelet.sha256");
    let response = https.runtime.block_on(send(&https.client, &url));
    let response =
        response.with_context(|| format!("cannot ask upstream for Kubernetes {version}: {FORM}"))?;
    if response.status() == StatusCode::NOT_FOUND {
        let fault = format!("upstream has no Kubernetes {version}");
        return Err(https.runtime.block_on(refusal(&https.client, site, version, &fault)));
    }
    good(response, &url).map(drop)
}

/// Why upstream's release cannot be taken when its version is not a whole one, and which there are.
pub(super) fn incomplete(site: &str, given: &str) -> Error {
    let fault = if given.is_empty() {
        "`release:` names no version of Kubernetes".to_owned()
    } else {
        format!("`release:{given}` names a minor of Kubernetes, not a version")
    };
    match Https::new() {
        Ok(https) => https.runtime.block_on(refusal(&https.client, site, given, &fault)),
        Err(error) => error.context(fault),
    }
}

/// The fault, the newest versions, and one of them to copy: of the minor that was given, if it is among them.
async fn refusal(client: &Client, site: &str, given: &str, fault: &str) -> Error {
    let newest = match newest(client, site).await {
        Ok(newest) => newest,
        Err(error) => {
            return error.context(format!("{fault}, and {site} does not say which there are: {FORM}"));
        }
    };
    let wanted: Vec<&str> = given.split('.').take(2).collect();
    let copy = newest.iter().find(|version| version.starts_with(&format!("{}.", wanted.join("."))));
    // The first is always there.
    let copy = copy.unwrap_or(&newest[0]);
    anyhow!("{fault}; the newest are {}\ntry: --kubernetes release:{copy}", newest.join(", "))
}

/// The newest patch of each of the newest minors, the newest first.
async fn newest(client: &Client, site: &str) -> Result<Vec<String>> {
    let (version, [major, minor]) = stable(client, &format!("{site}/stable.txt")).await?;
    let mut found = vec![version];
    for older in (0..minor).rev().take(MINORS - 1) {
        let url = format!("{site}/stable-{major}.{older}.txt");
        let (version, numbers) = stable(client, &url).await?;
        if numbers != [major, older] {
            bail!("{url} says {version}, which is of another minor");
        }
        found.push(version);
    }
    Ok(found)
}

/// The version that a file says, without its `v`, and the first two numbers of it.
async fn stable(client: &Client, url: &str) -> Result<(String, [u32; 2])> {
    let text = word(client, url).await?;
    let version = text.trim().strip_prefix('v').filter(|version| super::is_version(version));
    let numbers = version.and_then(|version| {
        let mut numbers = version.split('.').map_while(|number| number.parse().ok());
        Some([numbers.next()?, numbers.next()?])
    });
    version.map(str::to_owned).zip(numbers).with_context(|| {
        let shown: String = text.trim().chars().take(60).collect();
        format!("{url} says no version, but {shown:?}")
    })
}

/// `SITE/v1.34.2/bin/linux/amd64/NAME`.
fn file(site: &str, version: &str, name: &str) -> String {
    format!("{site}/v{version}/bin/linux/amd64/{name}")
}

/// An HTTPS client, and what runs it.
struct Https {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Https {
    fn new() -> Result<Self> {
        // Another part of this process may have installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().connect_timeout(SILENCE).read_timeout(SILENCE).build();
        let client = client.context("cannot make an HTTPS client")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { client, runtime: runtime.context("cannot start the HTTPS client")? })
    }
}

async fn program_file(client: &Client, url: &str, path: &Path) -> Result<()> {
    let sum = format!("{url}.sha256");
    let text = word(client, &sum).await?;
    let expected: Digest = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("{sum} holds no SHA-256"))?;
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut response = get(client, url).await?;
    while let Some(chunk) = response.chunk().await.context("the file broke off")? {
        hash.update(&chunk);
        file.write_all(&chunk).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let found = Digest(hash.finalize().into());
    if found != expected {
        bail!("its SHA-256 is {found}, and {sum} says {expected}");
    }
    file.set_permissions(Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

/// A file that holds a word or two.
async fn word(client: &Client, url: &str) -> Result<String> {
    let mut response = get(client, url).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.with_context(|| format!("{url} broke off"))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > WORD_MAX_BYTES {
            bail!("{url} is longer than {WORD_MAX_BYTES} bytes");
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn get(client: &Client, url: &str) -> Result<Response> {
    good(send(client, url).await?, url)
}

async fn send(client: &Client, url: &str) -> Result<Response> {
    let sent = client.get(url).send().await;
    sent.map_err(reqwest::Error::without_url).with_context(|| format!("cannot reach {url}"))
}

fn good(response: Response, url: &str) -> Result<Response> {
    let status = response.status();
    if !status.is_success() {
        bail!("the server answered {status} for {url}");
    }
    Ok(response)
}
