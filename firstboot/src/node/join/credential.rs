//! What proves that the node may join.

use crate::node::{Node, web};
use tatara_firstboot::cluster;
use tatara_http::fetch::{Authenticity, File};
use tatara_spec::config::Join;
use tatara_spec::{Code, Fault};

/// A token has 23 bytes; JSON around it, or an error page, some more.
const LIMIT_BYTES: u64 = 16 << 10;

pub(super) enum Credential {
    /// A bootstrap token.
    Token(String),
    /// A kubeconfig.
    File(String),
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
            let client = match &join.identity {
                Some(identity) => web::client_as(node, identity.reveal()),
                None => web::client(node),
            };
            return cluster::token(&client?.get(&file)?).map(Self::Token);
        }
        let file = join.discovery_file.as_ref();
        let file = file.ok_or_else(|| Fault::new(Code::Internal, "a join without a credential"))?;
        Ok(Self::File(file.reveal().to_owned()))
    }

    /// What can be shown as `Authorization: Bearer` to the API server; a client certificate cannot.
    pub(super) fn bearer(&self) -> Option<String> {
        match self {
            Self::Token(token) => Some(token.clone()),
            Self::File(text) => cluster::bearer(text),
        }
    }

    /// Every text in it that must not be seen.
    pub(super) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Token(token) => vec![token.clone()],
            Self::File(text) => cluster::secrets(text),
        }
    }
}

/// Where the credential is from, for the console.
pub(super) fn source(join: &Join) -> &'static str {
    match (&join.token, &join.token_from) {
        (Some(_), _) => "config",
        (None, Some(_)) => "token-from",
        (None, None) => "discovery-file",
    }
}
