//! After a failure: say it, keep it, report it, wait.

use crate::machine::{Machine, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tatara_installer::{StateFile, StateMount, state as state_partition};
use tatara_spec::layout::{MIB, state};
use tatara_spec::record::FailureRecord;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault, redact};
use tatara_sys::mount::is_mount_point;

/// Prints the failure with its hint, keeps and posts a record of it, and waits before the next try.
pub(crate) fn wait_after(m: &mut Machine, fault: &Fault) {
    let step = m.running();
    m.reporter.fail(step, fault);
    let wait = m.backoff.next_wait();
    let record = record(m.running(), m.backoff.attempts(), fault);
    keep(m, &record);
    report(m, &record);
    if matches!(fault.code, Code::NetConnect | Code::NetDns)
        && let Some(online) = &m.online
        && let Err(fault) = online.network.ask_again()
    {
        m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
    }
    m.reporter.info(&format!("try again in {:.0} s", wait.as_secs_f64().ceil()));
    std::thread::sleep(wait);
}

fn record(step: Step, attempt: u32, fault: &Fault) -> FailureRecord {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    FailureRecord {
        code: fault.code.name().to_owned(),
        step,
        message: redact::urls(&fault.chain()),
        hint: fault.code.hint().to_owned(),
        unix_time: now,
        attempt,
        shown: false,
    }
}

/// Keeps the record on the node's state partition, for `tatara-node status`, when exactly one was found: each is mounted by the name of
/// its disk.
fn keep(m: &Machine, record: &FailureRecord) {
    // An install that fails has unmounted it, or has made it anew; so has a node that could not be entered.
    if (Step::Partition..=Step::SwitchRoot).contains(&record.step)
        && let Err(fault) = m.scan()
    {
        m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
    }
    let mounted = mounted();
    let [(disk, _)] = mounted.as_slice() else { return };
    let written = json(record).and_then(|bytes| {
        let mount = StateMount::mount(&disk.to_string_lossy())?;
        mount.write(&StateFile::private(state::FAILURE, bytes))
    });
    if let Err(fault) = written {
        m.reporter.info(&format!("the failure could not be kept: {}", fault.chain()));
    }
}

/// The state partitions that are mounted: disk and mount point.
fn mounted() -> Vec<(PathBuf, PathBuf)> {
    let entries = std::fs::read_dir(state_partition::MOUNT_DIR).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| is_mount_point(path).unwrap_or(false));
    paths.map(|path| (Path::new("/dev").join(path.file_name().unwrap_or_default()), path)).collect()
}

/// Shows what failed at the last boot, of every disk that has a record of it: whoever switched the machine off may not have seen it.
/// Once: this boot's own failures are on the console already.
pub(crate) fn show_last_once(m: &mut Machine) {
    if std::mem::replace(&mut m.showed_last, true) {
        return;
    }
    for (disk, path) in mounted() {
        // One that cannot be read tells nothing; the disk itself is judged elsewhere.
        let Ok(Some(record)) = last(&path) else { continue };
        if record.shown {
            continue;
        }
        let FailureRecord { code, step, message, hint, unix_time, .. } = record;
        let when = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_time));
        let disk = disk.display();
        m.reporter.info(&format!("the last failure on {disk}, {when}: step={step} code={code} {message}"));
        m.reporter.info(&format!("  hint: {hint}"));
    }
}

fn last(state_root: &Path) -> Result<Option<FailureRecord>, Fault> {
    let bytes = StateMount::at(state_root.to_owned()).read(state::FAILURE, MIB)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The node is entered: what [`show_last_once`] has shown is not shown again.
pub(crate) fn was_shown(state: &StateMount) -> Result<(), Fault> {
    match last(state.path())? {
        Some(record) if !record.shown => {
            let record = FailureRecord { shown: true, ..record };
            state.write(&StateFile::private(state::FAILURE, json(&record)?))
        }
        _ => Ok(()),
    }
}

/// Posts the record where the command line or the config wants it; a report that cannot be delivered is no second failure.
fn report(m: &Machine, record: &FailureRecord) {
    let url = m.line.report_url.as_ref().or(m.report_url.as_ref());
    let (Some(url), Some(online)) = (url, &m.online) else { return };
    let Ok(body) = serde_json::to_string(record) else { return };
    if let Err(fault) = online.client().and_then(|client| client.post_json(url, body)) {
        m.reporter.info(&format!("the failure could not be reported: {}", fault.chain()));
    }
}

#[cfg(test)]
mod tests {
    use super::record;
    use tatara_spec::step::Step;
    use tatara_spec::{Code, Fault};

    #[test]
    fn a_failure_is_kept_without_what_its_urls_hide() {
        let cause = Fault::new(Code::HttpStatus, "https://h/b?token=S3CRET answered 404");
        let fault = Fault::caused(Code::HttpStatus, "GET https://me:S3CRET@h/a?token=S3CRET", cause);
        let record = record(Step::Config, 2, &fault);
        assert_eq!(record.message, "GET https://h/a?… https://h/b?… answered 404");
        assert_eq!((record.code.as_str(), record.attempt), ("E-HTTP-STATUS", 2));
    }
}
