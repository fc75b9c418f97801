//! Debian's `tuned` with its profile cpu-partitioning, on a node of ours without our isolation.

use crate::session::Session;
use std::time::Duration;

/// What the profile is told to isolate, on a machine of four CPUs.
pub const ISOLATED: &str = "2-3";

/// What tuned asks for on the kernel's command line, for these CPUs (`TUNED_BOOT_CMDLINE` of its /etc/tuned/bootcmdline). Whoever
/// installs it has them added by GRUB at the next boot; here they are given.
pub const BOOT_ARGUMENTS: [&str; 10] = [
    "skew_tick=1",
    "tsc=reliable",
    "rcupdate.rcu_normal_after_boot=1",
    "nohz=on",
    "isolcpus=2-3",
    "nohz_full=2-3",
    "rcu_nocbs=2-3",
    "tuned.non_isolcpus=00000003",
    "intel_pstate=disable",
    "nosoftlockup",
];

/// What a node's config says for it: the profile, chosen before tuned starts.
#[must_use]
pub fn files() -> String {
    format!(
        "files:\n\
         \x20 - {{path: /etc/tuned/active_profile, content: \"cpu-partitioning\\n\"}}\n\
         \x20 - {{path: /etc/tuned/profile_mode, content: \"manual\\n\"}}\n\
         \x20 - path: /etc/tuned/cpu-partitioning-variables.conf\n\
         \x20   content: \"isolated_cores={ISOLATED}\\nno_balance_cores={ISOLATED}\\n\"\n"
    )
}

/// Waits until tuned has applied the profile, and looks whether the machine was booted with what it asks for.
///
/// # Panics
/// When it does not come so far, or asks for arguments that the machine does not have.
pub fn applied(session: &Session<'_>, within: Duration) {
    let log = "/var/log/tuned/tuned.log";
    let wait = format!(
        "for i in $(seq {}); do sudo grep -q \"profile .cpu-partitioning. applied\" {log} && exit 0; sleep 1; done; \
         sudo cat {log}; systemctl status tuned; exit 1",
        within.as_secs()
    );
    let _ = session.say(&wait);
    let asked = session.say("sudo grep ^TUNED_BOOT_CMDLINE= /etc/tuned/bootcmdline");
    let asked = asked.trim().split_once('=').map_or("", |(_, words)| words).trim_matches('"').to_owned();
    let cmdline = session.say("cat /proc/cmdline");
    let missing: Vec<&str> =
        asked.split_whitespace().filter(|word| !cmdline.split_whitespace().any(|has| has == *word)).collect();
    assert!(
        !asked.is_empty() && missing.is_empty(),
        "tuned asks for {asked}; missing: {missing:?} in {cmdline}"
    );
}
