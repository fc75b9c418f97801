//! What ends a drain before its time: a signal, or its own limit.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Sleep;

/// What ends it, and what is said of that.
const SIGNALS: [(SignalKind, &str); 3] = [
    (SignalKind::interrupt(), "interrupted"),
    (SignalKind::terminate(), "terminated"),
    (SignalKind::hangup(), "its terminal has hung up"),
];

/// Heard from when it is made, also while nobody waits for it.
pub(super) struct Stop {
    signals: Vec<(Signal, &'static str)>,
    limit: Duration,
    over: Option<Pin<Box<Sleep>>>,
}

impl Stop {
    /// `limit` is from now on; zero is none.
    ///
    /// # Errors
    /// The kernel takes no handler.
    pub(super) fn listen(limit: Duration) -> std::io::Result<Self> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status")?);
        let heard = SIGNALS.iter().filter(|(kind, _)| ignored & (1 << (kind.as_raw_value() - 1)) == 0);
        let signals = heard.map(|(kind, what)| Ok((signal(*kind)?, *what)));
        Ok(Self {
            signals: signals.collect::<std::io::Result<_>>()?,
            limit,
            over: (!limit.is_zero()).then(|| Box::pin(tokio::time::sleep(limit))),
        })
    }

    /// Why it ends.
    pub(super) async fn wanted(&mut self) -> String {
        let (limit, over) = (self.limit, &mut self.over);
        let over = async {
            match over {
                Some(over) => over.await,
                None => std::future::pending().await,
            }
        };
        let signals = &mut self.signals;
        let heard = std::future::poll_fn(|context| {
            let mut all = signals.iter_mut();
            let first = all.find_map(|(signal, what)| signal.poll_recv(context).is_ready().then_some(*what));
            first.map_or(Poll::Pending, |what| Poll::Ready(what.to_owned()))
        });
        tokio::select! {
            biased;
            what = heard => what,
            () = over => format!("not within {}", humantime::format_duration(limit)),
        }
    }
}

/// The signals that whoever started us has had ignored, as nohup(1) has hang-ups: a bit each (`SigIgn` in proc_pid_status(5)).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
