//! What the client's errors say, without what they may hold in secret; and which of them pass.

use kube::client::AuthError;
use kube::config::KubeconfigError;
use kube::core::Status;
use kube::runtime::watcher;
use std::error::Error;
use std::time::Duration;
use tatara_spec::redact;

/// An error in the API server's words, or the chain of causes. What a credential plugin was given and what it has printed stay out of it.
pub(super) fn words(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => said(status),
        // Both have the URL, which may have a password.
        kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => {
            "the proxy is of a kind that is not supported".to_owned()
        }
        error => match auth_error(error) {
            Some(error) => auth_words(error),
            None => chain(error),
        },
    };
    printable(&text)
}

pub(super) fn watch_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => printable(&said(status)),
        error @ watcher::Error::NoResourceVersion => printable(&error.to_string()),
    }
}

/// Whether the cluster does not let this user watch: that does not pass by itself.
pub(super) fn forbids_watching(error: &watcher::Error) -> bool {
    let forbids = |status: &Status| matches!(status.code, 401 | 403);
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => forbids(status),
        _ => false,
    }
}

/// The cause names the PodDisruptionBudget, the message does not.
pub(super) fn said(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes: Vec<&str> =
        causes.map(|cause| cause.message.as_str()).filter(|text| !text.is_empty()).collect();
    let budget = status.code == 429 && !causes.is_empty();
    printable(&if budget { causes.join("; ") } else { status.message.clone() })
}

/// Whether asking again may help: the server was too busy or not there, or something between was not.
pub(super) fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500..),
        kube::Error::Service(_) | kube::Error::HyperError(_) => auth_error(error).is_none(),
        kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// How long the server wants to be left alone.
pub(super) fn retry_after(status: &Status) -> Duration {
    Duration::from_secs(status.details.as_ref().map_or(0, |details| details.retry_after_seconds.into()))
}

/// The parser would show the lines around its error, which may be a key or a token.
pub(super) fn kubeconfig_words(error: &KubeconfigError) -> String {
    let text = match error {
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(", line {}, column {}", at.line(), at.column()));
            format!("it cannot be read as a kubeconfig{}", place.unwrap_or_default())
        }
        error => chain(error),
    };
    printable(&text)
}

/// A credential that is made anew in the middle fails inside of other errors.
fn auth_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a AuthError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn auth_words(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            format!("the kubeconfig's credential plugin failed: {}", out.status)
        }
        AuthError::AuthExecStart(error) => {
            format!("the kubeconfig's credential plugin cannot be started: {error}")
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed | AuthError::UnrefreshableTokenResponse => {
            "the kubeconfig's credential plugin answers no credential".to_owned()
        }
        AuthError::ReadTokenFile(..)
        | AuthError::InvalidBasicAuth(_)
        | AuthError::InvalidBearerToken(_)
        | AuthError::MissingCommand
        | AuthError::ExecMissingClusterInfo => chain(error),
        // The rest may quote what a provider has printed.
        _ => "the kubeconfig's credential is of no use".to_owned(),
    }
}

/// Most of the client's errors have their cause in their own text, too.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// For a terminal: URLs without their secrets, and nothing that a terminal would obey.
fn printable(text: &str) -> String {
    redact::printable(&redact::urls(text))
}

#[cfg(test)]
mod tests;
