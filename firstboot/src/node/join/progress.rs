//! How far the join has come: lines on the console, the record for `status`, and how long to wait before the next attempt.

use super::outcome;
use crate::node::console::{self, Mark};
use crate::node::{Node, timeline, write_atomically};
use std::time::Duration;
use tatara_http::backoff::Backoff;
use tatara_spec::layout::run;
use tatara_spec::record::{JoinRecord, JoinState, StepTime};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault, redact};

/// Waits for so long; tests do not.
pub(in crate::node) type Rest<'a> = &'a dyn Fn(Duration);

pub(in crate::node) struct Progress<'a> {
    node: &'a Node,
    record: JoinRecord,
    backoff: Backoff,
    rest: Rest<'a>,
    /// Seconds since the kernel's start at which the step that is tried began.
    begin_s: f64,
    /// The step of the last failure.
    failed: Option<Step>,
    /// When that step was first tried.
    held_since_s: f64,
    /// Another machine's Node was Ready under this name.
    blocked: bool,
}

impl<'a> Progress<'a> {
    pub(in crate::node) fn new(node: &'a Node, name: &str, endpoint: &str, rest: Rest<'a>) -> Self {
        let record = JoinRecord {
            node_name: name.to_owned(),
            endpoint: endpoint.to_owned(),
            state: JoinState::Running,
            step: Step::JoinApi,
            reason: None,
            code: None,
            hint: None,
            attempts: 0,
        };
        Self {
            node,
            record,
            backoff: Backoff::default(),
            rest,
            begin_s: 0.0,
            failed: None,
            held_since_s: 0.0,
            blocked: false,
        }
    }

    /// Runs one step. The reason of the last failure stays on record until its step has succeeded.
    pub(in crate::node) fn step<T>(
        &mut self,
        step: Step,
        act: impl FnOnce() -> Result<(T, String), Fault>,
    ) -> Result<T, Fault> {
        self.begin(step)?;
        let (value, detail) = act()?;
        console::step(self.node, step, Mark::Ok(&detail));
        // A step that was held up took as long as that.
        let held = self.failed == Some(step);
        let begin_s = if held { self.held_since_s } else { self.begin_s };
        self.on_record(step, begin_s, Some(console::seconds_since_boot()));
        if held {
            self.failed = None;
            self.backoff.reset();
            self.because(None);
            self.record.attempts = 0;
            self.record.state = JoinState::Running;
        }
        Ok(value)
    }

    pub(super) fn begin(&mut self, step: Step) -> Result<(), Fault> {
        self.begin_s = console::seconds_since_boot();
        console::step(self.node, step, Mark::Begin);
        self.record.step = step;
        self.write()
    }

    /// Says why, and waits. What to do is said where it is another thing than the last time.
    pub(in crate::node) fn failed(&mut self, fault: &Fault) -> Result<(), Fault> {
        console::step(self.node, self.record.step, Mark::Fail(fault));
        if self.failed != Some(self.record.step) {
            self.backoff.reset();
            self.record.attempts = 0;
            self.held_since_s = self.begin_s;
        }
        self.failed = Some(self.record.step);
        self.record.attempts += 1;
        self.record.state = outcome(fault.code);
        if self.record.code.as_deref() != Some(fault.code.name()) {
            console::announce(self.node, &format!("tatara: hint: {}", fault.code.hint()));
        }
        self.because(Some(fault));
        self.write()?;
        (self.rest)(self.backoff.next_wait());
        Ok(())
    }

    /// The end of the step [`Step::Joined`]. `but` is what is not as it should be all the same.
    pub(super) fn joined(&mut self, but: Option<&Fault>) -> Result<(), Fault> {
        let detail = format!("name={}", self.record.node_name);
        console::step(self.node, Step::Joined, but.map_or(Mark::Ok(&detail), Mark::Fail));
        let end_s = but.is_none().then(console::seconds_since_boot);
        self.on_record(Step::Joined, self.begin_s, end_s);
        timeline::keep(self.node);
        self.record.state = JoinState::Joined;
        self.because(but);
        self.record.attempts = 0;
        self.write()
    }

    fn because(&mut self, fault: Option<&Fault>) {
        self.record.reason = fault.map(|fault| redact::urls(&fault.chain()));
        self.record.code = fault.map(|fault| fault.code.name().to_owned());
        self.record.hint = fault.map(|fault| fault.code.hint().to_owned());
    }

    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    /// Remembers that the name is another machine's, until its Node is deleted.
    pub(super) fn block_on_ready<T>(&mut self, found: &Result<Option<T>, Fault>) {
        match found {
            Err(fault) if fault.code == Code::JoinName => self.blocked = true,
            Ok(_) => self.blocked = false,
            Err(_) => {}
        }
    }

    fn on_record(&self, step: Step, begin_s: f64, end_s: Option<f64>) {
        timeline::record(self.node, StepTime { name: step.name().to_owned(), begin_s, end_s });
    }

    fn write(&self) -> Result<(), Fault> {
        let json = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| Fault::caused(Code::Internal, "write the join's record", error))?;
        write_atomically(&self.node.run(run::JOIN), &json)
    }
}
