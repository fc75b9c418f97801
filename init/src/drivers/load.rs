//! Runs the jobs of a plan, side by side where they do not need each other: the kernel unpacks and links on the caller's CPU.

use super::index::Job;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Loading is bound by the CPU, and more threads than this only wait for the kernel's module lock.
const THREADS_MAX: usize = 4;

/// Where the jobs stand.
struct Progress {
    /// Which have been begun.
    begun: Vec<bool>,
    /// Which have ended, well or not.
    ended: Vec<bool>,
}

/// Runs every job once, after those that it names, and returns when all have ended. A job runs also when one before it failed: the kernel
/// knows better whether it can do without.
pub(crate) fn run_all(jobs: &[Job], run: &(dyn Fn(usize) + Sync)) {
    let progress = Mutex::new(Progress { begun: vec![false; jobs.len()], ended: vec![false; jobs.len()] });
    let changed = Condvar::new();
    let work = || {
        while let Some(position) = next(jobs, &progress, &changed) {
            if let Some(job) = jobs.get(position) {
                run(job.module);
            }
            lock(&progress).ended[position] = true;
            changed.notify_all();
        }
    };
    let threads =
        std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without memory for a thread this one does the work alone.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a job whose predecessors have ended, or waits for one; `None` when all have been begun.
fn next(jobs: &[Job], progress: &Mutex<Progress>, changed: &Condvar) -> Option<usize> {
    let mut now = lock(progress);
    loop {
        if now.begun.iter().all(|begun| *begun) {
            return None;
        }
        let ready = |(position, job): &(usize, &Job)| {
            !now.begun[*position] && job.after.iter().all(|earlier| now.ended.get(*earlier) != Some(&false))
        };
        if let Some((position, _)) = jobs.iter().enumerate().find(ready) {
            now.begun[position] = true;
            return Some(position);
        }
        now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::run_all;
    use crate::drivers::index::Job;
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
    use std::sync::Mutex;

    /// Jobs that wait for arbitrary earlier ones.
    fn jobs() -> impl Strategy<Value = Vec<Job>> {
        proptest::collection::vec(any::<u32>(), 0..30).prop_map(|masks| {
            let job = |(module, mask): (usize, u32)| {
                let after = (0..module).filter(|earlier| mask & (1 << (earlier % 32)) != 0).collect();
                Job { module, after }
            };
            masks.into_iter().enumerate().map(job).collect()
        })
    }

    proptest! {
        #[test]
        fn every_job_runs_once_and_after_those_it_names(jobs in jobs()) {
            let order = Mutex::new(Vec::new());
            run_all(&jobs, &|module| order.lock().unwrap().push(module));
            let order = order.into_inner().unwrap();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..jobs.len()).collect::<Vec<_>>());
            let place = |module: usize| order.iter().position(|m| *m == module);
            for job in &jobs {
                prop_assert!(job.after.iter().all(|earlier| place(*earlier) < place(job.module)));
            }
        }
    }
}
