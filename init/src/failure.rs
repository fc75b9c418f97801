//! After a failure: say it, keep it, report it, wait.

use crate::machine::{Machine, json};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tatara_installer::{StateFile, StateMount, state as state_partition};
use tatara_spec::layout::state;
use tatara_spec::record::FailureRecord;
use tatara_spec::{Code, Fault};
use tatara_sys::mount::is_mount_point;

/// Prints the failure with its hint, keeps and posts a record of it, and waits before the next try.
pub(crate) fn wait_after(m: &mut Machine, fault: &Fault) {
    let step = m.running();
    m.reporter.fail(step, fault);
    let wait = m.backoff.next_wait();
    let record = record(m, fault);
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

fn record(m: &Machine, fault: &Fault) -> FailureRecord {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    FailureRecord {
        code: fault.code.name().to_owned(),
        step: m.running(),
        message: fault.chain(),
        hint: fault.code.hint().to_owned(),
        unix_time: now,
        attempt: m.backoff.attempts(),
    }
}

/// Keeps the record on the node's state partition, for `tatara-node status`, when exactly one was found: each is mounted by the name of
/// its disk.
fn keep(m: &Machine, record: &FailureRecord) {
    let Ok(entries) = std::fs::read_dir(state_partition::MOUNT_DIR) else { return };
    let mounted = |path: &PathBuf| is_mount_point(path).unwrap_or(false);
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(mounted).collect();
    let [path] = paths.as_slice() else { return };
    let disk = Path::new("/dev").join(path.file_name().unwrap_or_default());
    let written = json(record).and_then(|bytes| {
        let mount = StateMount::mount(&disk.to_string_lossy())?;
        mount.write(&StateFile::private(state::FAILURE, bytes))
    });
    if let Err(fault) = written {
        m.reporter.info(&format!("the failure could not be kept: {}", fault.chain()));
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
