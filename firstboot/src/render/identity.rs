//! /etc/hostname, /etc/hosts, /etc/machine-id. Their readers know no comments, so they have no header, except hosts.

use super::{Rendered, fault, header, word};
use tatara_spec::Fault;

pub(super) fn render(name: &str, machine_id: &str) -> Result<Vec<Rendered>, Fault> {
    word("metadata.name", name)?;
    if machine_id.len() != 32 || !machine_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(fault(format!(
            "machine id {machine_id:?} is not 32 lower-case hex digits (machine-id(5))"
        )));
    }
    Ok(vec![
        Rendered::public("/etc/hostname", format!("{name}\n")),
        Rendered::public("/etc/hosts", hosts(name)),
        // 0444 as systemd itself creates it.
        Rendered::file("/etc/machine-id", 0o444, format!("{machine_id}\n")),
    ])
}

/// 127.0.1.1 is Debian's address for a host's own name (Debian Reference, 5.1.1): it works without network, and a
/// name with dots gets its short form as alias.
fn hosts(name: &str) -> String {
    let names = match name.split_once('.') {
        Some((short, _)) => format!("{name} {short}"),
        None => name.to_owned(),
    };
    format!(
        "{}127.0.0.1 localhost\n127.0.1.1 {names}\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
        header("metadata.name")
    )
}
