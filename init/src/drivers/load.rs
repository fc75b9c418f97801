//! Runs the jobs of a plan, side by side where they do not need each other: the kernel unpacks and links on the caller's CPU.

use super::index::Job;
use std::cmp::Reverse;
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
    let order = longest_first(jobs);
    let progress = Mutex::new(Progress { begun: vec![false; jobs.len()], ended: vec![false; jobs.len()] });
    let changed = Condvar::new();
    let work = || {
        while let Some(position) = next(jobs, &order, &progress, &changed) {
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

/// The positions of the jobs, those before the longest chain of others first: the end of that chain is what is waited for.
fn longest_first(jobs: &[Job]) -> Vec<usize> {
    let mut behind = vec![0; jobs.len()];
    // A job waits for earlier ones only.
    for (position, job) in jobs.iter().enumerate().rev() {
        for earlier in &job.after {
            behind[*earlier] = behind[*earlier].max(behind[position] + 1);
        }
    }
    let mut order: Vec<_> = (0..jobs.len()).collect();
    // Of as many behind them, those last that can fill any gap.
    order.sort_by_key(|position| Reverse((behind[*position], jobs[*position].after.len())));
    order
}

/// Takes the first job in `order` whose predecessors have ended, or waits for one; `None` when all have been begun.
fn next(jobs: &[Job], order: &[usize], progress: &Mutex<Progress>, changed: &Condvar) -> Option<usize> {
    let mut now = lock(progress);
    loop {
        if now.begun.iter().all(|begun| *begun) {
            return None;
        }
        let ready = |position: usize| {
            !now.begun[position] && jobs[position].after.iter().all(|earlier| now.ended[*earlier])
        };
        if let Some(position) = order.iter().copied().find(|position| ready(*position)) {
            now.begun[position] = true;
            return Some(position);
        }
        now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::{longest_first, run_all};
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

    #[test]
    fn what_the_longest_chain_waits_for_comes_first() {
        // ext4 with what it needs: mbcache, crc16, two of crc32c, and jbd2, which waits for those.
        let after = [&[][..], &[], &[], &[], &[2, 3], &[0, 1, 2, 3, 4]];
        let jobs: Vec<_> = after.iter().map(|after| Job { module: 0, after: after.to_vec() }).collect();
        assert_eq!(longest_first(&jobs), [2, 3, 4, 0, 1, 5]);
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
