//! The config that the node fetched while it ran, where it has one: `tatara-node stage`.

use crate::enter;
use crate::machine::Machine;
use crate::wanted::{self, Source, Wanted};
use tatara_http::signature::{self, Signed};
use tatara_installer::StateMount;
use tatara_spec::layout::state;
use tatara_spec::plan::{self, Desired, Disk, Staged};
use tatara_spec::record::{STAGED_MAX_BYTES, StagedConfig};
use tatara_spec::{Code, Fault};

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

/// Removes it: it is accepted, or another one is.
pub(crate) fn erase(disk: &Disk) -> Result<(), Fault> {
    StateMount::mount(&disk.path)?.erase(state::STAGED)
}

/// As fetched, with the release that it named then. Its signature is checked again: the disk may have been in other hands.
fn read(m: &Machine, disk: &Disk) -> Result<Option<(Wanted, String)>, Fault> {
    let mount = StateMount::mount(&disk.path)?;
    let Some(json) = mount.read(state::STAGED, STAGED_MAX_BYTES)? else { return Ok(None) };
    // Where, and not what is there: it may be part of a secret.
    let damaged = |e: serde_json::Error| {
        let message = format!("{} is damaged at line {}, column {}", state::STAGED, e.line(), e.column());
        Fault::new(Code::Staged, message)
    };
    let StagedConfig { config: text, signature, url, keys, release } =
        serde_json::from_slice(&json).map_err(damaged)?;
    if !m.keys.is_empty() {
        let missing = || Fault::new(Code::ConfigSignature, "the staged config has no signature");
        signature::verify(Signed::Config, text.as_bytes(), &signature.ok_or_else(missing)?, &m.keys)?;
    }
    let config = wanted::parse("staged config", text.as_bytes())?;
    let from = Some(wanted::parse_url(&url)?);
    let bytes = text.into_bytes();
    Ok(Some((Wanted { source: Source::Staged, config, bytes, from, keys, release: None }, release)))
}
