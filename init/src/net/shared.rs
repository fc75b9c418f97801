//! What the network thread shows to the others.

use super::Link;
use super::device::Device;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tatara_spec::Fault;

/// The state of the network, as last seen.
#[derive(Debug, Default)]
pub(super) struct State {
    pub devices: Vec<Device>,
    pub links: Vec<Link>,
    pub events: Vec<String>,
    /// Why the thread ended, if it did.
    pub fatal: Option<Fault>,
}

/// The state, and a way to wait for it to change.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is one assignment: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` or the thread's end, at most `limit`; says whether it was ready.
    pub(super) fn wait(&self, limit: Duration, ready: impl Fn(&State) -> bool) -> bool {
        let waiting = |state: &mut State| !ready(state) && state.fatal.is_none();
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        ready(&state)
    }

    pub(super) fn publish(&self, devices: Vec<Device>, links: Vec<Link>) {
        let mut state = self.lock();
        state.devices = devices;
        // Those known keep their place, so that the first configured stays first.
        let mut ordered: Vec<Link> = state
            .links
            .iter()
            .filter_map(|old| links.iter().find(|new| new.name == old.name))
            .cloned()
            .collect();
        ordered.extend(links.into_iter().filter(|new| !state.links.iter().any(|old| old.name == new.name)));
        state.links = ordered;
        self.changed.notify_all();
    }

    pub(super) fn event(&self, text: String) {
        self.lock().events.push(text);
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.lock().fatal = Some(fault);
        self.changed.notify_all();
    }

    pub(super) fn take_fatal(&self) -> Option<Fault> {
        self.lock().fatal.take()
    }

    pub(super) fn take_events(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().events)
    }

    pub(super) fn links(&self) -> Vec<Link> {
        self.lock().links.clone()
    }

    pub(super) fn devices(&self) -> Vec<Device> {
        self.lock().devices.clone()
    }
}
