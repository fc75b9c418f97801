//! What proves that the node may join.

use crate::node::{Node, web};
use serde::Deserialize;
use std::collections::BTreeMap;
use tatara_http::fetch::{Authenticity, File};
use tatara_spec::config::{self, Join};
use tatara_spec::{Code, Fault};

/// A token has 23 bytes; JSON around it, or an error page, some more.
const LIMIT_BYTES: u64 = 16 << 10;

pub(super) enum Credential {
    /// A bootstrap token.
    Token(String),
    /// A kubeconfig.
    File(String),
}

/// The parts of a kubeconfig that are looked at (Kubernetes, client-go/tools/clientcmd/api/v1).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Kubeconfig {
    pub(super) clusters: Vec<NamedCluster>,
    pub(super) users: Vec<NamedUser>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedCluster {
    pub(super) cluster: ClusterEntry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct ClusterEntry {
    pub(super) server: String,
    pub(super) certificate_authority_data: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedUser {
    pub(super) user: BTreeMap<String, serde_json::Value>,
}

impl Kubeconfig {
    pub(super) fn parse(text: &str, code: Code) -> Result<Self, Fault> {
        // The parser's message may show the line that it dislikes, and with it a credential.
        serde_saphyr::from_str(text)
            .map_err(|_| Fault::new(code, "a kubeconfig is not as Kubernetes writes it"))
    }
}

impl Credential {
    pub(super) fn take(node: &Node, join: &Join) -> Result<Self, Fault> {
        let erased =
            || Fault::new(Code::JoinToken, "the credential of the config was erased after an earlier join");
        if let Some(token) = &join.token {
            if token.reveal().bytes().all(|byte| matches!(byte, b'0' | b'.')) {
                return Err(erased());
            }
            return Ok(Self::Token(token.reveal().to_owned()));
        }
        if let Some(url) = &join.token_from {
            let file =
                File { url, what: "join token", limit: LIMIT_BYTES, authenticity: Authenticity::Connection };
            return answered(&web::client(node)?.get(&file)?).map(Self::Token);
        }
        let file = join.discovery_file.as_ref();
        let file = file.ok_or_else(|| Fault::new(Code::Internal, "a join without a credential"))?;
        Ok(Self::File(file.reveal().to_owned()))
    }

    /// What can be shown as `Authorization: Bearer` to the API server; a client certificate cannot.
    pub(super) fn bearer(&self) -> Option<String> {
        match self {
            Self::Token(token) => Some(token.clone()),
            Self::File(text) => {
                let parsed = Kubeconfig::parse(text, Code::JoinToken).ok()?;
                parsed.users.iter().find_map(|user| user.user.get("token")?.as_str().map(str::to_owned))
            }
        }
    }

    /// Every text in it that must not be seen.
    pub(super) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Token(token) => vec![token.clone()],
            Self::File(text) => in_kubeconfig(text),
        }
    }
}

/// The credentials in a kubeconfig.
pub(super) fn in_kubeconfig(text: &str) -> Vec<String> {
    const SECRET: [&str; 3] = ["token", "password", "client-key-data"];
    let Ok(parsed) = Kubeconfig::parse(text, Code::JoinToken) else { return Vec::new() };
    let users = parsed.users.into_iter().flat_map(|user| user.user);
    users
        .filter(|(key, _)| SECRET.contains(&key.as_str()))
        .filter_map(|(_, value)| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
        .collect()
}

/// The token in an answer of `tokenFrom`.
fn answered(body: &[u8]) -> Result<String, Fault> {
    #[derive(Deserialize)]
    struct Json {
        token: String,
    }
    let text = String::from_utf8_lossy(body);
    let token = match serde_json::from_str::<Json>(&text) {
        Ok(json) => json.token,
        Err(_) => text.trim().to_owned(),
    };
    if config::is_bootstrap_token(&token) {
        return Ok(token);
    }
    let message = format!("the answer has {} bytes and is no token", body.len());
    Err(Fault::new(Code::JoinTokenSource, message))
}

/// Where the credential is from, for the console.
pub(super) fn source(join: &Join) -> &'static str {
    match (&join.token, &join.token_from) {
        (Some(_), _) => "config",
        (None, Some(_)) => "token-from",
        (None, None) => "discovery-file",
    }
}

#[cfg(test)]
mod tests {
    use super::{answered, in_kubeconfig};
    use tatara_spec::Code;

    #[test]
    fn an_answer_is_a_line_or_json() {
        let token = "abcdef.0123456789abcdef";
        for body in [format!("{token}\n"), format!("{{\"token\": \"{token}\", \"expires\": 3}}")] {
            assert_eq!(answered(body.as_bytes()).unwrap(), token);
        }
        for body in ["", "<html>", "{\"token\": 3}", "abcdef.0123456789abcdeX", "{\"token\": \"x\"}"] {
            let fault = answered(body.as_bytes()).unwrap_err();
            assert_eq!(fault.code, Code::JoinTokenSource);
            assert!(body.is_empty() || !fault.chain().contains(body), "{}", fault.chain());
        }
    }

    #[test]
    fn secrets_of_a_kubeconfig() {
        let text = "users:\n- name: x\n  user: {token: abc, client-key-data: S0VZ, username: me}\n";
        assert_eq!(in_kubeconfig(text), ["S0VZ", "abc"]);
        assert!(in_kubeconfig("not: [a kubeconfig").is_empty());
    }
}
