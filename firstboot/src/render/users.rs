//! Accounts: lines appended to the root's own passwd, group, shadow and gshadow, SSH keys, sudo, homes.
//!
//! Numbers are the config's ([`User::id`]): they do not move when others are added or removed. When one was changed all
//! the same, the home follows, because tmpfiles gives each home to its owner at every boot.

use super::{BaseFiles, Rendered, fault, header, one_line, word};
use std::collections::BTreeMap;
use tatara_spec::Fault;
use tatara_spec::config::User;

/// Debian's group `shadow`, statically allocated (Debian Policy 9.2.2); shadow and gshadow belong to it.
const SHADOW_GID: u32 = 42;

/// Login shell when the config names none; `/bin/sh` has no history or completion.
const SHELL: &str = "/bin/bash";

/// A password field that no password matches, and that tools show as locked (shadow(5)).
///
/// sshd lets a locked account in by key as long as PAM is in use (sshd_config(5), `UsePAM`).
const LOCKED: &str = "!*";

pub(super) fn render(
    users: &[User],
    fetched_keys: &BTreeMap<String, Vec<String>>,
    base: &BaseFiles,
) -> Result<Vec<Rendered>, Fault> {
    let mut rendered = account_files(users, base)?;
    for user in users {
        rendered.push(authorized_keys(user, fetched_keys)?);
    }
    rendered.push(sudoers(users));
    rendered.push(homes(users));
    Ok(rendered)
}

fn account_files(users: &[User], base: &BaseFiles) -> Result<Vec<Rendered>, Fault> {
    let mut passwd = lines(&base.passwd);
    let mut group = lines(&base.group);
    let mut shadow = lines(&base.shadow);
    let mut gshadow = lines(&base.gshadow);
    for user in users {
        let (name, id) = (account_name(user)?, user.id());
        refuse_taken("passwd", &passwd, name, id)?;
        refuse_taken("group", &group, name, id)?;
        let shell = field("shell", user.shell.as_deref().unwrap_or(SHELL))?;
        passwd.push_str(&format!("{name}:x:{id}:{id}::/home/{name}:{shell}\n"));
        group.push_str(&format!("{name}:x:{id}:\n"));
        // No date of change: passwords do not age where there are none, and the file stays the same every day.
        shadow.push_str(&format!("{name}:{LOCKED}:::::::\n"));
        gshadow.push_str(&format!("{name}:!::\n"));
    }
    Ok(vec![
        Rendered::public("/etc/passwd", passwd),
        Rendered::public("/etc/group", group),
        Rendered::file("/etc/shadow", 0o640, shadow).group(SHADOW_GID),
        Rendered::file("/etc/gshadow", 0o640, gshadow).group(SHADOW_GID),
    ])
}

/// The text, ending in a newline unless empty.
fn lines(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Names become path components and fields: letters, digits, `-`, `_` only, and no leading `-`.
fn account_name(user: &User) -> Result<&str, Fault> {
    let name = user.name.as_str();
    let known = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if !known || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > 32 {
        return Err(fault(format!(
            "users: {name:?} is not a login name (a-z, then a-z, 0-9, -, _; at most 32)"
        )));
    }
    Ok(name)
}

fn field<'a>(key: &str, value: &'a str) -> Result<&'a str, Fault> {
    if word(key, value)?.contains(':') {
        return Err(fault(format!("users: {key} {value:?} must not contain a colon")));
    }
    Ok(value)
}

/// passwd and group have name and number in the same places, 0 and 2.
fn refuse_taken(file: &str, text: &str, name: &str, id: u32) -> Result<(), Fault> {
    for line in text.lines() {
        let mut fields = line.split(':');
        let (other, number) = (fields.next(), fields.nth(1));
        if other == Some(name) {
            return Err(fault(format!(
                "users: `{name}` is already in the root's /etc/{file}; choose another name"
            )));
        }
        if number == Some(&id.to_string()) {
            let other = other.unwrap_or_default();
            return Err(fault(format!(
                "users: number {id}, due to `{name}`, belongs to `{other}` in the root's /etc/{file}"
            )));
        }
    }
    Ok(())
}

/// Keys live in /etc, owned by root: a login cannot add a key for itself that outlives the config.
fn authorized_keys(user: &User, fetched: &BTreeMap<String, Vec<String>>) -> Result<Rendered, Fault> {
    let name = account_name(user)?;
    let mut text = header(&format!("users[{name}].keys, .keysUrl"));
    let from_url = user.keys_url.as_ref().and_then(|url| fetched.get(url));
    for key in user.keys.iter().chain(from_url.into_iter().flatten()) {
        text.push_str(one_line("users.keys", key.trim())?);
        text.push('\n');
    }
    Ok(Rendered::public(format!("/etc/ssh/authorized_keys.d/{name}"), text))
}

/// The name has no dot: sudo skips such files in sudoers.d (sudoers(5)).
fn sudoers(users: &[User]) -> Rendered {
    let mut text = header("users[].sudo");
    for user in users.iter().filter(|user| user.sudo) {
        text.push_str(&format!("{} ALL=(ALL:ALL) NOPASSWD: ALL\n", user.name));
    }
    Rendered::file("/etc/sudoers.d/90-tatara", 0o440, text)
}

/// Homes are made on the state partition at boot (tmpfiles.d(5)): `d` for a new one, `Z` gives what is in it to its
/// owner, whose number may have changed, and leaves modes as they are.
fn homes(users: &[User]) -> Rendered {
    let mut text = header("users");
    for User { name, .. } in users {
        text.push_str(&format!("d /var/home/{name} 0700 {name} {name} -\n"));
        text.push_str(&format!("Z /var/home/{name} - {name} {name} -\n"));
    }
    Rendered::public("/etc/tmpfiles.d/tatara-homes.conf", text)
}
