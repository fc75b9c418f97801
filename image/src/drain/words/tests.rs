use super::{forbids_watching, kubeconfig_words, passes, watch_words, words};
use kube::client::AuthError;
use kube::config::Kubeconfig;
use kube::core::Status;
use kube::runtime::watcher;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Output};

const SECRET: &str = "swordfish";

/// A plugin that fails, with a secret in all that it was given and has said.
fn plugin() -> AuthError {
    let said = || SECRET.as_bytes().to_vec();
    let out = Output { status: ExitStatus::from_raw(256), stdout: said(), stderr: said() };
    AuthError::AuthExecRun { cmd: format!("TOKEN={SECRET:?} \"plugin\" {SECRET:?}"), out: Box::new(out) }
}

#[test]
fn a_credential_plugin_is_not_quoted() {
    let wanted = "the kubeconfig's credential plugin failed: exit status: 1";
    // As at the first call, and as where the credential is made anew in the middle.
    assert_eq!(words(&kube::Error::Auth(plugin())), wanted);
    let inside = || kube::Error::Service(Box::new(plugin()));
    assert_eq!(words(&inside()), wanted);
    assert!(!passes(&inside()));
    for watch in
        [watcher::Error::InitialListFailed, watcher::Error::WatchStartFailed, watcher::Error::WatchFailed]
    {
        assert_eq!(watch_words(&watch(inside())), wanted);
    }
}

#[test]
fn a_provider_is_not_quoted() {
    let error = AuthError::AuthExec(format!("Executing gcloud failed: {SECRET}"));
    assert!(!words(&kube::Error::Auth(error)).contains(SECRET));
}

#[test]
fn a_proxy_is_not_named_with_its_password() {
    let proxy_url = || Box::new(format!("ftp://me:{SECRET}@proxy:1").parse().unwrap());
    for error in [
        kube::Error::ProxyProtocolUnsupported { proxy_url: proxy_url() },
        kube::Error::ProxyProtocolDisabled { proxy_url: proxy_url(), protocol_feature: "ftp" },
    ] {
        let words = words(&error);
        assert!(words.contains("proxy") && !words.contains(SECRET), "{words}");
    }
}

#[test]
fn no_text_moves_a_terminals_cursor() {
    let status = Status::failure("denied\n\u{1b}[2J by a webhook at https://me:pw@hook/", "Forbidden");
    let words = words(&kube::Error::Api(status.boxed()));
    assert_eq!(words, "denied??[2J by a webhook at https://hook/");
}

#[test]
fn only_a_watch_that_is_forbidden_is_over() {
    let status = |code| Status::failure("no", "No").with_code(code).boxed();
    for (code, over) in [(401, true), (403, true), (410, false), (429, false), (500, false)] {
        let error = watcher::Error::WatchStartFailed(kube::Error::Api(status(code)));
        assert_eq!(forbids_watching(&error), over, "{code}");
        assert_eq!(forbids_watching(&watcher::Error::WatchError(status(code))), over, "{code}");
    }
}

#[test]
fn only_what_may_pass_is_asked_again() {
    let status = |code| kube::Error::Api(Status::failure("no", "No").with_code(code).boxed());
    for (code, is_so) in
        [(401, false), (403, false), (404, false), (422, false), (429, true), (500, true), (503, true)]
    {
        assert_eq!(passes(&status(code)), is_so, "{code}");
    }
    assert!(passes(&kube::Error::Service("connection refused".into())));
}

#[test]
fn a_broken_kubeconfig_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    std::fs::write(&file, "users:\n- name: me\n  user: {token: [swordfish]}\n").unwrap();
    let words = kubeconfig_words(&Kubeconfig::read_from(&file).unwrap_err());
    assert!(words.contains("line 3") && !words.contains("swordfish"), "{words}");
    let words = kubeconfig_words(&Kubeconfig::read_from(dir.path().join("none")).unwrap_err());
    assert_eq!(words.matches("No such file").count(), 1, "{words}");
}
