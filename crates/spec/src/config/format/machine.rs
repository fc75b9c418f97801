//! Disks, CPUs and the kernel.

use super::{Checked, expect, is_clean_path};
use crate::config::diagnostic::{did_you_mean, quote};
use crate::{cpu, size};

/// Units that a size may have been meant in.
const UNITS: [&str; 10] = ["KiB", "MiB", "GiB", "TiB", "PiB", "kB", "MB", "GB", "TB", "PB"];

pub(super) fn size(text: &str) -> Checked {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    // `G` alone is read as GiB by most tools: say so instead of guessing.
    let meant = UNITS.iter().find(|name| match unit.len() {
        1 => name.ends_with("iB") && name[..1].eq_ignore_ascii_case(unit),
        _ => name.eq_ignore_ascii_case(unit),
    });
    let hint = match meant {
        Some(unit) if digits > 0 => format!("; did you mean `{number}{unit}`?"),
        _ => String::new(),
    };
    let valid = size::parse(text).is_ok_and(|bytes| bytes > 0);
    expect(valid, &format!("a size, e.g. `100GiB`, `1TB` or bytes{hint}"))
}

pub(super) fn word(text: &str) -> Checked {
    expect(!text.is_empty() && !text.contains(char::is_control), "a text on one line")
}

pub(super) fn one_line(text: &str) -> Checked {
    expect(!text.contains(char::is_control), "a text on one line")
}

/// A pattern as fnmatch(3) has them, because systemd matches interfaces by the same text. Braces are refused, which
/// fnmatch takes literally and people do not.
pub(super) fn glob(text: &str) -> Checked {
    let valid = !text.is_empty()
        && !text.contains(|c: char| c.is_control() || matches!(c, '{' | '}'))
        && glob::Pattern::new(text).is_ok();
    expect(valid, "a glob of `*`, `?` and `[…]`, e.g. `Samsung*`; `[` must be closed")
}

pub(super) fn device_path(text: &str) -> Checked {
    let hint = if !text.contains('/') && is_clean_path(&format!("/dev/{text}")) {
        format!("; did you mean `/dev/{text}`?")
    } else {
        String::new()
    };
    expect(text.starts_with("/dev/") && is_clean_path(text), &format!("a path below /dev{hint}"))
}

/// The form only. What the machine has is checked when it boots.
pub(super) fn cpu_list(text: &str) -> Checked {
    cpu::check_syntax(text)
        .map_err(|fault| {
            // The list itself stands in our message already.
            let why = fault
                .message
                .split_once("`: ")
                .map(|(_, why)| why)
                .filter(|why| !why.contains(char::is_control));
            why.map_or_else(String::new, |why| format!("; {why}"))
        })
        .map_err(|why| format!("expected a CPU list, e.g. `0-3,8`{why}"))
}

/// Arguments that are rendered from other keys of the config, or that would stop the boot; with `-` as `_`, as the kernel
/// compares them (`kernel/params.c`, parameqn()).
const OWN_ARGUMENTS: [(&str, &str); 13] = [
    ("isolcpus", "`tuning.isolation`"),
    ("nohz_full", "`tuning.isolation`"),
    ("rcu_nocbs", "`tuning.isolation`"),
    ("irqaffinity", "`tuning.housekeeping`"),
    ("systemd.cpu_affinity", "`tuning.housekeeping`"),
    ("root", "the slot that is booted"),
    ("rootfstype", "the slot that is booted"),
    ("rootflags", "the slot that is booted"),
    ("ro", "the slot that is booted"),
    ("rw", "the slot that is booted"),
    ("init", "the release"),
    ("rdinit", "the release"),
    ("initrd", "the release"),
];

pub(super) fn kernel_argument(text: &str) -> Checked {
    // What GRUB can pass on, see [`crate::slot::node_cfg`].
    let passable =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte));
    expect(passable, "one kernel argument of printable ASCII without blanks, quotes and backslashes")?;
    let name = text.split('=').next().unwrap_or(text).replace('-', "_");
    expect(!name.is_empty(), "an argument's name before `=`")?;
    let known = OWN_ARGUMENTS.iter().find(|(own, _)| *own == name).map(|(_, from)| *from);
    match known.or_else(|| name.starts_with("tatara.").then_some("tatara itself")) {
        Some(from) => Err(format!("expected another argument: `{name}` is set by {from}")),
        None => Ok(()),
    }
}

/// The directories of /proc/sys (kernel, `Documentation/admin-guide/sysctl/index.rst`).
const SYSCTL_TABLES: [&str; 10] =
    ["abi", "crypto", "debug", "dev", "fs", "kernel", "net", "sunrpc", "user", "vm"];

pub(super) fn sysctl_name(text: &str) -> Checked {
    let valid = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':' | b'*'))
    };
    let parts: Vec<&str> = text.split(['.', '/']).collect();
    expect(
        parts.len() > 1 && parts.iter().all(|part| valid(part)),
        "a sysctl's name, e.g. `net.ipv4.ip_forward`",
    )?;
    let table = parts[0];
    let hint = did_you_mean(table, SYSCTL_TABLES);
    expect(
        SYSCTL_TABLES.contains(&table),
        &format!("a name that begins with a table of /proc/sys, not {}{hint}", quote(table)),
    )
}

/// Linux, `include/linux/module.h`: MODULE_NAME_LEN is 64 less the size of a pointer, the closing NUL included.
const MODULE_NAME_MAX_BYTES: usize = 55;

pub(super) fn module_name(text: &str) -> Checked {
    let bare = text.split(".ko").next().and_then(|path| path.rsplit('/').next()).unwrap_or(text);
    let valid = |name: &str| {
        !name.is_empty()
            && name.len() <= MODULE_NAME_MAX_BYTES
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let hint = if bare != text && valid(bare) { format!("; did you mean `{bare}`?") } else { String::new() };
    expect(valid(text), &format!("a module's name without path and suffix{hint}"))
}
