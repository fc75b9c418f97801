//! Room on the state partition.

use crate::node::Node;
use std::fmt;
use tatara_spec::{Code, Fault};

/// As Linux and Go programs say `ENOSPC`, the one with a capital.
const FULL: &str = "o space left on device";

/// Bytes, in a unit that people compare by.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} MiB", self.0 >> 20, ((self.0 % (1 << 20)) * 10) >> 20)
    }
}

/// Bytes that root may still write; `None` where the file system does not say.
fn free(node: &Node) -> Option<u64> {
    rustix::fs::statvfs(node.root.join("var")).ok().map(|stat| stat.f_bfree * stat.f_frsize)
}

/// Refuses an archive that there is no room for. Its content is unpacked beside it, so that more is needed in the end; how much more is
/// not known before.
pub(super) fn check(node: &Node, what: &str, bytes: u64) -> Result<(), Fault> {
    match free(node) {
        Some(free) if free < bytes => {
            let (bytes, free) = (Bytes(bytes), Bytes(free));
            let why = format!(
                "{what} has {bytes}, and {free} are free; to unpack it takes about twice as much again"
            );
            Err(Fault::new(Code::StateFull, why))
        }
        _ => Ok(()),
    }
}

/// A failure of which a full file system is the cause gets the code for it.
pub(super) fn explained(node: &Node, fault: Fault) -> Fault {
    let chain = fault.chain();
    if fault.code == Code::StateFull || !chain.contains(FULL) {
        return fault;
    }
    let free = free(node).map_or_else(|| "an unknown number".to_owned(), |free| Bytes(free).to_string());
    Fault::new(Code::StateFull, format!("{chain}; {free} are free after what was half there is removed"))
}

#[cfg(test)]
mod tests {
    use super::{Bytes, check, explained};
    use crate::node::Node;
    use tatara_spec::{Code, Fault};

    #[test]
    fn a_full_file_system_is_known_by_its_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("var")).unwrap();
        let node = Node::new(root.path().to_owned());
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let os = std::io::Error::from_raw_os_error(28);
        for (error, code) in [(os, Code::StateFull), (full, Code::NodeState)] {
            let fault = Fault::caused(Code::NodeState, "write /var/x", error);
            assert_eq!(explained(&node, fault).code, code);
        }
        check(&node, "an archive", 1).unwrap();
        let fault = check(&node, "an archive", u64::MAX).unwrap_err();
        assert!(fault.code == Code::StateFull && fault.message.contains("are free"), "{fault:?}");
        assert_eq!(Bytes((3 << 20) + (1 << 19)).to_string(), "3.5 MiB");
    }
}
