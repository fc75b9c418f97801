//! Upstream's release files: `SITE/vVERSION/bin/linux/amd64/PROGRAM`, each with its digest beside it as `PROGRAM.sha256`.
//!
//! Source: <https://kubernetes.io/releases/download/#binaries>.

use anyhow::{Context as _, Result, bail};
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

/// Fetches programs into a directory and verifies each against its digest.
///
/// # Errors
/// A file cannot be fetched, or is not what its digest says; it is then not in the directory.
pub(super) fn fetch(site: &str, version: &str, programs: &[&str], directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    // Another part of this process may have installed one before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        reqwest::Client::builder().read_timeout(SILENCE).build().context("cannot make an HTTPS client")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the HTTPS client")?;
    for program in programs {
        let url = format!("{site}/v{version}/bin/linux/amd64/{program}");
        let path = directory.join(program);
        runtime
            .block_on(program_file(&client, &url, &path))
            .inspect_err(|_| drop(fs::remove_file(&path)))
            .with_context(|| format!("cannot fetch {url}"))?;
    }
    Ok(())
}

async fn program_file(client: &reqwest::Client, url: &str, path: &Path) -> Result<()> {
    let sum = format!("{url}.sha256");
    let text = get(client, &sum).await?.text().await.with_context(|| format!("cannot read {sum}"))?;
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

async fn get(client: &reqwest::Client, url: &str) -> Result<reqwest::Response> {
    let response = client.get(url).send().await?;
    let status = response.status();
    if !status.is_success() {
        bail!("the server answered {status} for {url}");
    }
    Ok(response)
}
