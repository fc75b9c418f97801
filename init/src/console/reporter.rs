//! The steps of a boot, as lines for people and machines, and as a timeline.

use super::Console;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tatara_spec::layout::MIB;
use tatara_spec::record::{StepTime, Timeline};
use tatara_spec::step::Step;
use tatara_spec::{Fault, redact};

/// A progress line is printed at least this far apart in time, unless a tenth of the whole was done.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Prints and records steps; may be shared between threads.
#[derive(Debug)]
pub struct Reporter {
    console: Console,
    timeline: Mutex<Timeline>,
    progress: Mutex<Option<Shown>>,
    /// Time since the kernel started.
    clock: fn() -> Duration,
}

/// The progress line printed last.
#[derive(Debug, Clone, Copy)]
struct Shown {
    step: Step,
    tenths: u64,
    at: Duration,
}

impl Reporter {
    /// Opens the consoles of the machine whose proc and dev are below `root`.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        Self::new(Console::open_all(&root.join("proc"), &root.join("dev")), tatara_sys::time::since_boot)
    }

    fn new(console: Console, clock: fn() -> Duration) -> Self {
        let timeline = Timeline { kernels: vec![Vec::new()] };
        Self { console, timeline: Mutex::new(timeline), progress: Mutex::default(), clock }
    }

    /// Puts the timeline of the kernels before this one (kexec) in front of ours; also how a worker started anew goes on with the
    /// timeline of the one before: `earlier` then ends with this kernel's first steps.
    pub fn resume(&self, earlier: Timeline, kernel: Kernel) {
        let mut timeline = lock(&self.timeline);
        let mut kernels = earlier.kernels;
        let own = std::mem::take(&mut timeline.kernels);
        match (kernel, kernels.last_mut()) {
            (Kernel::Same, Some(last)) => last.extend(own.into_iter().flatten()),
            _ => kernels.extend(own),
        }
        timeline.kernels = kernels;
    }

    /// The timeline so far.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        lock(&self.timeline).clone()
    }

    /// A step begins.
    pub fn begin(&self, step: Step) {
        let now = (self.clock)();
        if let Some(steps) = lock(&self.timeline).kernels.last_mut() {
            steps.push(StepTime::begin(step, now.as_secs_f64()));
        }
        self.console.line(&format!("tatara: step={step} state=begin t={}", seconds(now)));
    }

    /// A step has been done; `detail` is for the line only, words or `key=value`, and may be empty.
    pub fn ok(&self, step: Step, detail: &str) {
        let now = (self.clock)();
        if let Some(steps) = lock(&self.timeline).kernels.last_mut()
            && let Some(open) = steps.iter_mut().rev().find(|s| s.name == step.name() && s.end_s.is_none())
        {
            open.end_s = Some(now.as_secs_f64());
        }
        self.lines(&format!("step={step} state=ok t={} {detail}", seconds(now)));
    }

    /// A step has failed: the code, the chain of causes, and what to do about it. The caller says what happens next.
    pub fn fail(&self, step: Step, fault: &Fault) {
        self.fail_as(step.name(), fault);
    }

    /// A failure of something that is no step of a boot.
    pub(crate) fn fail_as(&self, name: &str, fault: &Fault) {
        let now = seconds((self.clock)());
        self.lines(&format!("step={name} state=fail t={now} code={} {}", fault.code, fault.chain()));
        self.lines(&format!("  hint: {}", fault.code.hint()));
    }

    /// Something worth knowing.
    pub fn info(&self, text: &str) {
        self.lines(text);
    }

    /// `done` of `total` bytes of a step are done; printed every tenth, and every ten seconds.
    pub fn progress(&self, step: Step, done: u64, total: u64) {
        let at = (self.clock)();
        let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(0);
        let mut shown = lock(&self.progress);
        let due = match *shown {
            Some(last) if last.step == step => tenths != last.tenths || at >= last.at + PROGRESS_INTERVAL,
            _ => true,
        };
        if due {
            *shown = Some(Shown { step, tenths, at });
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
            self.lines(&format!("  {step}: {percent} % ({} of {} MiB)", done / MIB, total / MIB));
        }
    }

    /// Every line passes here, so none shows what a URL holds in secret.
    fn lines(&self, text: &str) {
        for line in redact::urls(text).lines() {
            self.console.line(format!("tatara: {line}").trim_end());
        }
    }
}

/// Which kernel the end of a timeline belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The one that runs.
    Same,
    /// One before it.
    Earlier,
}

/// Seconds with three decimals.
fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Reporter};
    use crate::console::Console;
    use std::fs;
    use std::time::Duration;
    use tatara_spec::record::{StepTime, Timeline};
    use tatara_spec::step::Step;
    use tatara_spec::{Code, Fault};
    use tempfile::TempDir;

    fn reporter() -> (TempDir, Reporter) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("consoles"), "ttyS0 -W- (EC p a) 4:64\n").unwrap();
        fs::write(root.path().join("ttyS0"), "").unwrap();
        let console = Console::open_all(root.path(), root.path());
        (root, Reporter::new(console, || Duration::from_micros(1_234_567)))
    }

    fn printed(root: &TempDir) -> Vec<String> {
        let text = fs::read_to_string(root.path().join("ttyS0")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_as_documented() {
        let (root, reporter) = reporter();
        reporter.begin(Step::FindDisk);
        reporter.ok(Step::FindDisk, "disks=2");
        reporter.ok(Step::Plan, "");
        let cause = Fault::new(Code::Sys, "mount /dev/vda5");
        reporter.fail(Step::Root, &Fault::caused(Code::StateMount, "first\nsecond", cause));
        reporter.info("the plan");
        let hint = format!("tatara:   hint: {}", Code::StateMount.hint());
        let wanted = [
            "tatara: step=find-disk state=begin t=1.235",
            "tatara: step=find-disk state=ok t=1.235 disks=2",
            "tatara: step=plan state=ok t=1.235",
            "tatara: step=root state=fail t=1.235 code=E-STATE-MOUNT first",
            "tatara: second: mount /dev/vda5",
            hint.as_str(),
            "tatara: the plan",
        ];
        assert_eq!(printed(&root), wanted);
    }

    #[test]
    fn no_line_shows_what_a_url_hides() {
        let (root, reporter) = reporter();
        let fault = || Fault::new(Code::UrlBad, "`https://me:S3CRET@h/x?token=S3CRET` is wrong");
        reporter.info(&fault().message);
        reporter.ok(Step::Kexec, "for tatara.config=https://h/x?token=S3CRET quiet");
        reporter.fail(Step::Config, &Fault::caused(Code::UrlBad, "the config", fault()));
        let text = printed(&root).join("\n");
        assert!(!text.contains("S3CRET"), "{text}");
        assert!(text.contains("tatara: `https://h/x?…` is wrong"), "{text}");
    }

    #[test]
    fn the_timeline_has_begin_and_end_and_earlier_kernels() {
        let (_root, reporter) = reporter();
        reporter.begin(Step::Drivers);
        reporter.ok(Step::Drivers, "");
        reporter.begin(Step::FindDisk);
        let steps = reporter.timeline().kernels.concat();
        assert_eq!(steps.iter().map(|s| s.end_s.is_some()).collect::<Vec<_>>(), [true, false]);
        let earlier = || Timeline { kernels: vec![vec![StepTime::begin(Step::Payload, 3.0)]] };
        reporter.resume(earlier(), Kernel::Same);
        assert_eq!(reporter.timeline().kernels.len(), 1);
        reporter.resume(earlier(), Kernel::Earlier);
        let lengths: Vec<_> = reporter.timeline().kernels.iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 3]);
    }

    #[test]
    fn progress_is_printed_every_tenth_only() {
        let (root, reporter) = reporter();
        for done in 0..=1000 {
            reporter.progress(Step::Payload, done << 20, 1000 << 20);
        }
        reporter.progress(Step::Verify, 0, 0);
        let lines = printed(&root);
        assert_eq!(lines.len(), 12, "{lines:?}");
        assert_eq!(lines[1], "tatara:   payload: 10 % (100 of 1000 MiB)");
        assert_eq!(lines[11], "tatara:   verify: 0 % (0 of 0 MiB)");
    }
}
