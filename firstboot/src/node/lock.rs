//! One `tatara-node` at a time changes what is read, changed and written back.

use super::Node;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use tatara_spec::{Code, Fault};

/// Locked by flock(2), which ends with the process, however that ends.
const LOCK: &str = "/run/tatara/lock";

/// Held until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Lock(#[expect(dead_code, reason = "closing it ends the lock")] File);

/// Waits for the others: each holds it for a few milliseconds.
pub(super) fn acquire(node: &Node) -> Result<Lock, Fault> {
    of(node, LOCK)
}

/// Waits for whoever holds a lock of its own, below /run.
pub(super) fn of(node: &Node, lock: &str) -> Result<Lock, Fault> {
    let path = node.run(lock);
    let fault =
        |error: std::io::Error| Fault::caused(Code::NodeState, format!("lock {}", path.display()), error);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fault)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| fault(error.into()))?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::acquire;
    use crate::node::Node;
    use std::fs;

    /// Without the lock nearly every round loses some of the others' changes.
    #[test]
    fn changes_of_several_at_once_are_not_lost() {
        const EACH: u32 = 50;
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/tatara")).unwrap();
        let block = root.path().join("block");
        fs::write(&block, "0").unwrap();
        let change = || {
            let node = Node::new(root.path().to_owned());
            for _ in 0..EACH {
                let _lock = acquire(&node).unwrap();
                let number: u32 = fs::read_to_string(&block).unwrap().parse().unwrap();
                std::thread::yield_now();
                fs::write(&block, (number + 1).to_string()).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(change);
            }
        });
        assert_eq!(fs::read_to_string(&block).unwrap(), (4 * EACH).to_string());
    }
}
