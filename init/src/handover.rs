//! Whether the node's kernel may be started from this one by kexec, and what a refusal leaves behind.
//!
//! A kernel that refuses once (lockdown, `kexec_load_disabled`, no room) refuses for ever. So the refusal is kept for as long as this
//! kernel runs, also for the next worker, and the node boots without what only another kernel could give it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use tatara_installer::{StateFile, StateMount};
use tatara_spec::config::Handover;
use tatara_spec::{Code, Fault, redact};

/// Below the root: why the kernel refused; there only when it did.
const REFUSED: &str = "run/tatara/kexec-refused";

/// What speaks for and against kexec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kexec {
    /// This kernel was started by ours already.
    pub done: bool,
    /// What the config wants.
    pub handover: Handover,
    /// Why this kernel refused one.
    pub refused: Option<String>,
}

impl Kexec {
    /// Whether one may be tried: a second one would be no better than the first.
    #[must_use]
    pub fn may(&self) -> bool {
        !self.done && self.handover == Handover::Kexec && self.refused.is_none()
    }

    /// What is not as configured on a node that boots without a kexec, one sentence each.
    #[must_use]
    pub fn degraded(&self, missing: &[String]) -> Vec<String> {
        let mut said: Vec<String> =
            redact::all(missing).iter().map(|arg| format!("the kernel runs without {arg}")).collect();
        said.extend(self.refused.clone());
        said
    }
}

/// On the state partition: what was not as configured before a kexec. The kernel that follows boots from the disk and knows nothing of it.
const DEGRADED: &str = "lib/tatara/before-kexec-degraded.json";
/// A few sentences.
const DEGRADED_MAX_BYTES: u64 = 64 * 1024;

/// Keeps for the next kernel what is not as configured about this boot; also that nothing is.
///
/// # Errors
/// [`tatara_spec::Code::DiskWrite`].
pub fn keep_degraded(mount: &StateMount, degraded: &[String]) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(&redact::all(degraded))
        .map_err(|e| Fault::caused(Code::Internal, "what is degraded cannot be encoded", e))?;
    mount.write(&StateFile::private(DEGRADED, bytes))
}

/// What the kernel before a kexec kept. What cannot be read is no reason not to boot, and is said.
#[must_use]
pub fn kept_degraded(mount: &StateMount) -> Vec<String> {
    match mount.read(DEGRADED, DEGRADED_MAX_BYTES) {
        Ok(None) => Vec::new(),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| vec![format!("{DEGRADED} is damaged: {error}")]),
        Err(fault) => vec![format!("{}: {}", fault.code, fault.chain())],
    }
}

/// Keeps a refusal for as long as this kernel runs; gives it back in words. What cannot be kept is tried again, so it is no failure.
pub fn refuse(root: &Path, fault: &Fault) -> String {
    let why = redact::urls(&format!("{}: {}", fault.code, fault.chain()));
    let path = root.join(REFUSED);
    let _ = path.parent().map(fs::create_dir_all);
    let _ = fs::write(path, &why);
    why
}

/// The refusal that was kept.
#[must_use]
pub fn refusal(root: &Path) -> Option<String> {
    match fs::read_to_string(root.join(REFUSED)) {
        Ok(why) => Some(why),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // A refusal that cannot be read was one all the same.
        Err(error) => Some(format!("/{REFUSED} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{DEGRADED, Kexec, keep_degraded, kept_degraded, refusal, refuse};
    use tatara_installer::StateMount;
    use tatara_spec::config::Handover;
    use tatara_spec::{Code, Fault};

    fn kexec(refused: Option<String>) -> Kexec {
        Kexec { done: false, handover: Handover::Kexec, refused }
    }

    #[test]
    fn a_refused_kexec_is_not_tried_again_and_the_node_says_what_it_lacks() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(refusal(root.path()), None);
        assert!(kexec(refusal(root.path())).may());
        let eperm = std::io::Error::from_raw_os_error(1);
        refuse(
            root.path(),
            &Fault::caused(Code::KexecFailed, "the node's kernel could not be loaded", eperm),
        );
        let after = kexec(refusal(root.path()));
        assert!(!after.may());
        let degraded = after.degraded(&["nohz_full=2-7".to_owned()]);
        assert_eq!(degraded[0], "the kernel runs without nohz_full=2-7");
        assert!(degraded[1].starts_with("E-KEXEC: the node's kernel could not be loaded: "), "{degraded:?}");
    }

    #[test]
    fn what_is_degraded_is_known_behind_a_kexec() {
        let root = tempfile::tempdir().unwrap();
        let mount = StateMount::at(root.path().to_owned());
        assert_eq!(kept_degraded(&mount), [""; 0]);
        keep_degraded(&mount, &["no config from https://h/x?t=S3CRET".to_owned()]).unwrap();
        assert_eq!(kept_degraded(&mount), ["no config from https://h/x?…"]);
        keep_degraded(&mount, &[]).unwrap();
        assert_eq!(kept_degraded(&mount), [""; 0], "the next boot is a good one");
        std::fs::write(root.path().join(DEGRADED), "[").unwrap();
        assert!(kept_degraded(&mount)[0].contains("damaged"));
    }

    #[test]
    fn a_node_that_lacks_nothing_says_only_why_there_was_no_kexec() {
        assert_eq!(kexec(None).degraded(&[]), [""; 0]);
        let kexeced = Kexec { done: true, ..kexec(None) };
        assert!(!kexeced.may());
        assert!(!Kexec { handover: Handover::Firmware, ..kexec(None) }.may());
        let secret = ["tatara.config=https://h/x?t=S3CRET".to_owned()];
        assert_eq!(kexeced.degraded(&secret), ["the kernel runs without tatara.config=https://h/x?…"]);
    }
}
