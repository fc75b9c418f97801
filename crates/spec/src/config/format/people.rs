//! Logins, keys, files and time.

use super::{Checked, expect, is_clean_path};
use crate::config::diagnostic::did_you_mean;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// useradd(8): at most 32 characters.
const LOGIN_MAX_BYTES: usize = 32;

/// Users that Debian's base-passwd and the packages of a payload make.
const SYSTEM_USERS: [&str; 29] = [
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "_apt",
    "nobody",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "systemd-oom",
    "systemd-coredump",
    "messagebus",
    "sshd",
    "polkitd",
    "tss",
    "uuidd",
    "etcd",
];

/// RFC 3339, section 5.6, in UTC.
pub(super) fn moment(text: &str) -> Checked {
    expect(humantime::parse_rfc3339(text).is_ok(), "a moment in UTC, `2026-11-21T00:00:00Z` (RFC 3339)")
}

pub(super) fn login_name(text: &str) -> Checked {
    let lower = text.to_ascii_lowercase();
    let valid = |name: &str| {
        name.len() <= LOGIN_MAX_BYTES
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let hint =
        if lower != text && valid(&lower) { format!("; did you mean `{lower}`?") } else { String::new() };
    expect(!SYSTEM_USERS.contains(&text), "the name of a person, not of the system's own user")?;
    expect(
        valid(text),
        &format!(
            "a lower-case letter, then letters, digits, `-` and `_`, at most {LOGIN_MAX_BYTES} bytes{hint}"
        ),
    )
}

/// Types of keys that OpenSSH 9 takes (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
const SSH_KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// One line of authorized_keys: `[options] type base64 [comment]`.
pub(super) fn ssh_public_key(text: &str) -> Checked {
    expect(!text.contains("PRIVATE KEY"), "a public key; this is a private one and must now be replaced")?;
    expect(!text.contains(char::is_control), "one public key on one line")?;
    let words = words_outside_quotes(text);
    let is_type = |word: &&str| SSH_KEY_TYPES.contains(word);
    // A line may begin with one word of options.
    let Some(index) = words.iter().take(2).position(is_type) else {
        let hint = words.first().map_or_else(String::new, |word| did_you_mean(word, SSH_KEY_TYPES));
        return expect(false, &format!("an SSH public key, `ssh-ed25519 AAAA… comment`{hint}"));
    };
    let (kind, blob) = (words[index], words.get(index + 1).copied().unwrap_or_default());
    let decoded = STANDARD
        .decode(blob)
        .map_err(|_| format!("expected base64 after `{kind}`; the key may be cut off"))?;
    expect(
        blob_is(&decoded, kind),
        &format!("a whole key of type `{kind}`; it may be cut off or of another type"),
    )
}

fn words_outside_quotes(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let words = text.split(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    words.filter(|word| !word.is_empty()).collect()
}

/// Whether a key's bytes are strings (RFC 4251, section 5: length and bytes) that fill it, the first one its type.
fn blob_is(mut blob: &[u8], kind: &str) -> bool {
    let mut fields = Vec::new();
    while let Some((length, rest)) = blob.split_first_chunk::<4>() {
        let Ok(length) = usize::try_from(u32::from_be_bytes(*length)) else { return false };
        let Some((field, rest)) = rest.split_at_checked(length) else { return false };
        fields.push(field);
        blob = rest;
    }
    blob.is_empty() && fields.len() >= 2 && fields[0] == kind.as_bytes()
}

/// A minisign public key: algorithm `Ed`, 8 bytes of key id, 32 bytes of Ed25519 key.
pub(super) fn minisign_key(text: &str) -> Checked {
    const BYTES: usize = 2 + 8 + 32;
    let valid = STANDARD.decode(text).is_ok_and(|key| key.len() == BYTES && key.starts_with(b"Ed"));
    expect(
        valid,
        "a minisign public key: the second line of the .pub file, 56 characters that begin with `RW`",
    )
}

pub(super) fn absolute_path(text: &str) -> Checked {
    expect(is_clean_path(text), "an absolute path without `.` and `..`")
}

/// Files below /etc that are made from other keys; a second source would make the node unreachable.
const OWN_FILES: [(&str, &str); 28] = [
    ("/etc/hostname", "`metadata.name`"),
    ("/etc/machine-id", "the install"),
    ("/etc/passwd", "`users`"),
    ("/etc/group", "`users`"),
    ("/etc/shadow", "`users`"),
    ("/etc/gshadow", "`users`"),
    ("/etc/localtime", "`time.zone`"),
    ("/etc/hosts", "`metadata.name`"),
    ("/etc/sudoers.d/90-tatara", "`users`"),
    ("/etc/ssh/sshd_config.d/10-tatara.conf", "`users`"),
    ("/etc/tmpfiles.d/tatara-homes.conf", "`users`"),
    ("/etc/sysctl.d/99-tatara.conf", "`tuning.sysctls`"),
    ("/etc/modules-load.d/tatara.conf", "`tuning.modules`"),
    ("/etc/systemd/resolved.conf.d/10-tatara.conf", "`network`"),
    ("/etc/systemd/timesyncd.conf.d/10-tatara.conf", "`time.servers`"),
    ("/etc/systemd/system.conf.d/10-tatara.conf", "the release"),
    ("/etc/systemd/system.conf.d/20-tatara-cpus.conf", "`tuning.housekeeping`"),
    ("/etc/tatara/tuning.json", "`tuning`"),
    ("/etc/tatara/kubelet.json", "`kubernetes.kubelet`"),
    ("/etc/tatara/firewall.nft", "`firewall`"),
    ("/etc/containerd/config.toml", "`kubernetes`"),
    ("/etc/containers/registries.conf.d/shortnames.conf", "`kubernetes`"),
    ("/etc/containers/registries.conf.d/tatara.conf", "`kubernetes.registryMirrors`"),
    ("/etc/crio/crio.conf.d/20-tatara.conf", "`kubernetes`"),
    ("/etc/crio/crio.conf.d/30-tatara-images.conf", "`kubernetes.images`"),
    ("/etc/crictl.yaml", "`kubernetes`"),
    ("/etc/modules-load.d/tatara-kubernetes.conf", "`kubernetes`"),
    ("/etc/systemd/journald.conf.d/10-tatara.conf", "the release"),
];

pub(super) fn etc_path(text: &str) -> Checked {
    let hint = if text.starts_with("etc/") { format!("; did you mean `/{text}`?") } else { String::new() };
    let below = text.starts_with("/etc/") && is_clean_path(text);
    expect(below, &format!("an absolute path of a file below /etc, without `.` and `..`{hint}"))?;
    match OWN_FILES.iter().find(|(path, _)| *path == text) {
        Some((_, from)) => Err(format!("expected another file: this one is made from {from}")),
        None => Ok(()),
    }
}

pub(super) fn file_mode(text: &str) -> Checked {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let plain = octal && (text.len() == 3 || text.starts_with('0'));
    expect(plain, "permissions in octal, e.g. `0644`; setuid, setgid and sticky are not given")
}

/// The areas of the IANA time zone database; `Etc` and two names without an area are what servers use beside them.
const ZONE_AREAS: [&str; 11] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
    "Etc",
];

/// The form only: whether the zone exists is known where the files are, on the node.
pub(super) fn time_zone(text: &str) -> Checked {
    if matches!(text, "UTC" | "GMT") {
        return Ok(());
    }
    let mut parts = text.split('/');
    let area = parts.next().unwrap_or_default();
    let places: Vec<&str> = parts.collect();
    let place = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
    };
    let valid = ZONE_AREAS.contains(&area) && (1..=2).contains(&places.len()) && places.iter().all(place);
    let hint = match crate::config::diagnostic::nearest(area, ZONE_AREAS) {
        Some(near) if near != area && !places.is_empty() => {
            format!("; did you mean `{near}/{}`?", places.join("/"))
        }
        _ => String::new(),
    };
    expect(valid, &format!("`UTC` or a zone of the IANA database, e.g. `Asia/Tokyo`{hint}"))
}
