//! Which paths are served, on which side.

use super::access_log::{self, Log};
use super::ipxe::Script;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use std::path::Path;
use tatara_spec::release::artifact;
use tower_http::services::ServeDir;

/// What a request may ask for.
type Allowed = fn(&str) -> bool;

/// Everything but dot files.
pub(super) fn https(dir: &Path, script: Script, log: Log) -> Router {
    app(dir, script, log, |_| true)
}

/// Only what firmware and iPXE load.
pub(super) fn http(dir: &Path, script: Script, log: Log) -> Router {
    app(dir, script, log, is_boot_file)
}

fn app(dir: &Path, script: Script, log: Log, allowed: Allowed) -> Router {
    // Without an index file a directory is not found: nothing lists it.
    let files = ServeDir::new(dir).append_index_html_on_directories(false).redirect_to_trailing_slash(false);
    Router::new()
        .fallback_service(files)
        .layer(from_fn_with_state((script, allowed), guard))
        .layer(from_fn_with_state(log, access_log::layer))
}

/// Refuses paths that are not served, and answers for the generated boot.ipxe.
async fn guard(State((script, allowed)): State<(Script, Allowed)>, request: Request, next: Next) -> Response {
    let Some(path) = clean(request.uri().path()) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    if !allowed(&path) {
        return (StatusCode::FORBIDDEN, "not over plain HTTP\n").into_response();
    }
    let reads = matches!(request.method().as_str(), "GET" | "HEAD");
    match script.for_path(&path).filter(|_| reads) {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain")], text).into_response(),
        None => next.run(request).await,
    }
}

/// A request's path, decoded and without its first `/`. `None` for one with `.`, `..`, a hidden name, an empty component, or what file
/// systems and URLs read differently.
fn clean(path: &str) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let path = decoded.strip_prefix('/')?;
    let served = |part: &str| !part.is_empty() && !part.starts_with('.');
    let odd = |c: char| c == '\\' || c.is_control();
    (path.split('/').all(served) && !path.contains(odd)).then(|| path.to_owned())
}

/// Kernel, initramfs, boot scripts and boot loaders, at the top or one directory down. None of them is secret; the kernel and
/// initramfs are as trustworthy as the network that firmware boots from, everything after them is verified.
fn is_boot_file(path: &str) -> bool {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let loader = Path::new(name).extension().is_some_and(|extension| {
        ["efi", "kpxe", "pxe", "kkpxe", "lkrn"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    let known = [artifact::KERNEL, artifact::INITRAMFS, "boot.ipxe", "autoexec.ipxe"].contains(&name);
    !parent.contains('/') && (loader || known)
}
