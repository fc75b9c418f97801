//! What a cluster answers to a node that is not yet a member, and who gives out its tokens.

use crate::check_refusal;
use serde_json::{Map, Value, json};
use tatara_firstboot::cluster::{Info, NodeObject, bearer, discovered, kubelet_config, secrets, token};
use tatara_firstboot::render::kubernetes::merge;
use tatara_spec::config::is_bootstrap_token;

/// Base64 shrinks, so no certificate is longer than what it came in.
pub(crate) fn cluster_info(input: &[u8]) {
    match Info::parse(input) {
        Ok(info) => {
            assert!(!info.ca.is_empty(), "a cluster without a CA would be trusted by none");
            assert!(info.ca.iter().map(|ca| ca.len()).sum::<usize>() <= input.len());
        }
        Err(fault) => check_refusal(&fault),
    }
}

/// A discovery file is a credential: what refuses it must not repeat it.
pub(crate) fn kubeconfig(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match discovered(&text) {
        Ok((server, ca)) => assert!(!server.ends_with('/') && !ca.is_empty()),
        Err(fault) => {
            check_refusal(&fault);
            // What is shorter may be a word of the message by chance.
            let long =
                secrets(&text).into_iter().filter(|secret| secret.len() >= 16).chain(credentials(&text));
            long.for_each(|secret| assert!(!fault.chain().contains(&secret), "{}", fault.chain()));
        }
    }
    if let Some(bearer) = bearer(&text) {
        assert!(bearer.is_empty() || secrets(&text).contains(&bearer), "a bearer that nobody erases");
    }
}

/// What looks like a credential, also where the file cannot be read as one: the tokens of kubeadm and of service accounts, and keys as
/// Base64, are long words with digits.
fn credentials(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=._-".contains(c)));
    let long = words.filter(|word| word.len() >= 20 && word.contains(|c: char| c.is_ascii_digit()));
    long.map(str::to_owned)
}

pub(crate) fn node_object(input: &[u8]) {
    if let Err(fault) = NodeObject::parse(input) {
        check_refusal(&fault);
    }
}

pub(crate) fn join_token(input: &[u8]) {
    match token(input) {
        Ok(token) => assert!(is_bootstrap_token(&token)),
        Err(fault) => check_refusal(&fault),
    }
}

/// The cluster's part may be anything; the node's part is what counts.
pub(crate) fn kubelet(input: &[u8]) {
    let Ok(mut config) = kubelet_config(&String::from_utf8_lossy(input)) else { return };
    let own = json!({"reservedSystemCPUs": "0", "authentication": {"anonymous": {"enabled": false}}});
    let own: Map<String, Value> = own.as_object().cloned().unwrap();
    merge(&mut config, &own);
    assert_eq!(config["reservedSystemCPUs"], "0");
    assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
    serde_json::to_vec(&config).expect("what was read can be written");
}
