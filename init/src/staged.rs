//! The config that the node fetched while it ran, where it has one: `tatara-node stage`.

use crate::enter;
use crate::machine::{Machine, write_run};
use crate::wanted::{self, Source, Wanted};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tatara_http::signature::{self, Signed};
use tatara_installer::StateMount;
use tatara_spec::layout::state;
use tatara_spec::plan::{self, Desired, Disk, Staged, Target};
use tatara_spec::record::{STAGED_MAX_BYTES, StagedConfig};
use tatara_spec::{Code, Fault};

/// When this kernel first tried what the staged config asks for, in milliseconds since its start.
const ASKED: &str = "/run/tatara/staged-asked";
/// There while the staged config is tried in the root.
const TRIED: &str = "/run/tatara/staged-tried";

/// A newer config than the accepted one.
pub(crate) enum Newer {
    /// The node boots with it.
    Boots(Box<Wanted>),
    /// It asks for more than a boot, in words.
    Asks(String),
}

/// What is staged on this node's disk, when something of it is to be done at this boot. What cannot be used is said, and left to the
/// node: it keeps nobody from booting.
pub(crate) fn look(m: &mut Machine, disks: &[Disk]) -> Option<Newer> {
    // The kernel before has looked already; what it left, it left for the next power-on.
    let disk = wanted::newest_install(disks).filter(|_| !m.line.kexeced)?;
    let (wanted, release) = match read(m, disk) {
        Ok(staged) => staged?,
        Err(fault) => {
            not_used(m, &fault);
            return None;
        }
    };
    let desired = Desired { config: &wanted.config, release: Some(&release) };
    match plan::staged(desired, disks, &m.line.request) {
        Staged::Use => match enter::rehearse(m, &wanted) {
            Ok(()) => Some(Newer::Boots(Box::new(wanted))),
            Err(fault) => {
                not_used(m, &fault);
                None
            }
        },
        Staged::Fetch(why) => Some(Newer::Asks(why)),
        Staged::Wait(why) => {
            m.reporter.info(&format!("the staged config waits: {why}"));
            None
        }
        Staged::Refuse(fault) => {
            not_used(m, &fault);
            None
        }
    }
}

/// Says why; also on the node, as degraded.
pub(crate) fn not_used(m: &mut Machine, fault: &Fault) {
    let why = format!("the staged config is not used: {}: {}", fault.code, fault.chain());
    m.reporter.info(&why);
    m.reporter.info(&format!("  hint: {}", fault.code.hint()));
    m.degraded.push(why);
}

/// How long what the staged config asks for may still be tried: [`plan::OFFLINE_DEADLINE`] from the first try on, also for the next worker.
pub(crate) fn time_left() -> Duration {
    let now = uptime();
    let first = fs::read_to_string(ASKED).ok().and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let first = first.unwrap_or_else(|| {
        // What cannot be kept begins anew with the next worker.
        let _ = write_run(ASKED, now.as_millis().to_string().as_bytes());
        now
    });
    plan::OFFLINE_DEADLINE.saturating_sub(now.saturating_sub(first))
}

/// Since this kernel started.
fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// A staged config has to fit the very root before it is accepted: afterwards no boot from the disk could leave it again. One with which a
/// worker has died is not tried by the next.
///
/// # Errors
/// The accepted one, which takes its place, cannot be read.
pub(crate) fn tried(m: &mut Machine, wanted: Wanted, disk: &Disk, target: &Target) -> Result<Wanted, Fault> {
    if wanted.source != Source::Staged {
        return Ok(wanted);
    }
    let died = Path::new(TRIED).exists();
    let result = if died {
        Err(Fault::new(Code::Panic, "a worker has died with it"))
    } else {
        write_run(TRIED, b"").and_then(|()| enter::try_in_root(m, &wanted, target))
    };
    if !died {
        // One that stays costs the next worker this config, no more.
        let _ = fs::remove_file(TRIED);
    }
    match result {
        Ok(()) => Ok(wanted),
        Err(fault) => {
            not_used(m, &fault);
            wanted::accepted_on(disk)
        }
    }
}

/// Removes it: it is accepted, or another one is.
pub(crate) fn erase(disk: &Disk) -> Result<(), Fault> {
    StateMount::mount(&disk.path)?.erase(state::STAGED)
}

/// Completes what a power cut ended: an erasure, or writing the file. What is left may hold part of a secret. Where it fails the node boots
/// all the same, and does it when it next looks for its config.
pub(crate) fn complete_erasure(m: &Machine, disk: &Disk) {
    if let Err(fault) = complete(disk) {
        m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
    }
}

fn complete(disk: &Disk) -> Result<(), Fault> {
    let mount = StateMount::mount_to_read(&disk.path)?;
    mount.erase_unfinished(state::STAGED)?;
    let json = mount.read(state::STAGED, STAGED_MAX_BYTES)?;
    let is_half_erased = json.is_some_and(|json| matches!(StagedConfig::parse(&json), Ok(None)));
    if is_half_erased { erase(disk) } else { Ok(()) }
}

/// With the release that it named then.
fn read(m: &Machine, disk: &Disk) -> Result<Option<(Wanted, String)>, Fault> {
    let json = StateMount::mount_to_read(&disk.path)?.read(state::STAGED, STAGED_MAX_BYTES)?;
    let staged = json.map_or(Ok(None), |json| StagedConfig::parse(&json))?;
    staged.map(|staged| unpack(staged, &m.keys)).transpose()
}

/// The disk may have been in other hands since it was written: with keys one of them must have signed the config.
fn unpack(staged: StagedConfig, signers: &[String]) -> Result<(Wanted, String), Fault> {
    let StagedConfig { config: text, signature, url, keys, release } = staged;
    if !signers.is_empty() {
        let missing = || Fault::new(Code::ConfigSignature, "the staged config has no signature");
        signature::verify(Signed::Config, text.as_bytes(), &signature.ok_or_else(missing)?, signers)?;
    }
    let config = wanted::parse("staged config", text.as_bytes())?;
    let from = Some(wanted::parse_url(&url)?);
    let bytes = text.into_bytes();
    Ok((Wanted { source: Source::Staged, config, bytes, from, keys, release: None }, release))
}

#[cfg(test)]
mod tests {
    use super::unpack;
    use crate::wanted::Source;
    use minisign::KeyPair;
    use tatara_spec::record::StagedConfig;
    use tatara_spec::{Code, Fault};

    const CONFIG: &str = "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: n, serial: 3}\n\
         install: {release: {url: r.json}}\nfiles: [{path: /etc/s, content: S3CRET}]\n";

    fn staged(config: &str, signature: Option<String>) -> StagedConfig {
        let (url, release) = ("https://h/n.yaml".to_owned(), "r1".to_owned());
        let keys = [("https://h/k".to_owned(), vec!["ssh-ed25519 A".to_owned()])].into();
        StagedConfig { config: config.to_owned(), signature, url, keys, release }
    }

    fn code_of(fault: Fault) -> Code {
        assert!(!fault.chain().contains("S3CRET"), "{}", fault.chain());
        fault.code
    }

    fn code(staged: StagedConfig, signers: &[String]) -> Code {
        code_of(unpack(staged, signers).err().expect("a refusal"))
    }

    #[test]
    fn all_of_it_comes_back() {
        let (wanted, release) = unpack(staged(CONFIG, None), &[]).unwrap();
        assert_eq!(
            (wanted.source, wanted.config.metadata.serial, release.as_str()),
            (Source::Staged, 3, "r1")
        );
        assert_eq!((wanted.bytes.as_slice(), wanted.keys.len()), (CONFIG.as_bytes(), 1));
        assert!(wanted.release.is_none() && wanted.from.is_some());
    }

    /// What a power cut, a worn disk or a stranger's hand can leave.
    #[test]
    fn damage_is_told_without_what_is_there() {
        let good = serde_json::to_vec(&staged(CONFIG, None)).unwrap();
        assert_eq!(StagedConfig::parse(&good).unwrap(), Some(staged(CONFIG, None)));
        for json in [0, 1, good.len() / 2, good.len() - 1].map(|length| &good[..length]) {
            assert_eq!(code_of(StagedConfig::parse(json).unwrap_err()), Code::Staged, "{} bytes", json.len());
        }
        for erased in [1, good.len() / 2, good.len()] {
            let mut json = good.clone();
            json[..erased].fill(0);
            assert_eq!(StagedConfig::parse(&json).unwrap(), None, "{erased} bytes were erased");
        }
        assert_eq!(code(staged("kind: S3CRET", None), &[]), Code::ConfigVersion);
        assert_eq!(code(staged(&CONFIG.replace("files", "flies"), None), &[]), Code::ConfigInvalid);
    }

    #[test]
    fn with_a_key_only_what_it_signed_is_taken() {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let signers = [pair.pk.to_base64()];
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, CONFIG.as_bytes(), None, None).unwrap();
        let signature = || Some(signature.to_string());
        assert!(unpack(staged(CONFIG, signature()), &signers).is_ok());
        assert_eq!(code(staged(CONFIG, None), &signers), Code::ConfigSignature);
        let changed = CONFIG.replace("serial: 3", "serial: 4");
        assert_eq!(code(staged(&changed, signature()), &signers), Code::ConfigSignature);
        assert_eq!(code(staged(CONFIG, Some("<html>".to_owned())), &signers), Code::ConfigSignature);
    }
}
