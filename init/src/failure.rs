//! After a failure: say it, keep it, report it, wait.

use crate::machine::Machine;
use std::time::{SystemTime, UNIX_EPOCH};
use tatara_spec::Fault;
use tatara_spec::record::FailureRecord;

/// Prints the failure with its hint, keeps and posts a record of it, and waits before the next try.
pub(crate) fn wait_after(m: &mut Machine, fault: &Fault) {
    let step = m.running();
    m.reporter.fail(step, fault);
    let wait = m.backoff.next_wait();
    report(m, &record(m, fault));
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

/// Posts the record where the command line or the config wants it; a report that cannot be delivered is no second failure.
fn report(m: &Machine, record: &FailureRecord) {
    let (Some(url), Some(online)) = (&m.line.report_url, &m.online) else { return };
    let Ok(body) = serde_json::to_string(record) else { return };
    if let Err(fault) = online.client().and_then(|client| client.post_json(url, body)) {
        m.reporter.info(&format!("the failure could not be reported: {}", fault.chain()));
    }
}
