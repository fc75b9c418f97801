//! The newest config that was accepted, also when the disk that said so is being written anew.

use super::{Content, Disk};
use crate::config::NodeConfig;
use crate::error::{Code, Fault};
use std::collections::BTreeMap;

/// The highest `metadata.serial` seen on a disk, by node. A reinstall erases the record first; without this, an older config could be
/// replayed to a machine whose reinstall failed and is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serials(BTreeMap<String, u64>);

impl Serials {
    /// Remembers what the disks say.
    pub fn note(&mut self, disks: &[Disk]) {
        for disk in disks.iter().filter(|disk| !disk.boot_medium) {
            if let Content::Installed(installed) = &disk.content {
                let known = self.0.entry(installed.record.node.clone()).or_default();
                *known = installed.record.serial.max(*known);
            }
        }
    }

    /// Refuses a config that is older than one that its node accepted.
    ///
    /// # Errors
    /// [`Code::ConfigSerial`].
    pub fn check(&self, config: &NodeConfig) -> Result<(), Fault> {
        let (found, name) = (config.metadata.serial, &config.metadata.name);
        match self.0.get(name) {
            Some(last) if found < *last => {
                let message =
                    format!("the config's `metadata.serial` is {found}; `{name}` accepted {last} before");
                Err(Fault::new(Code::ConfigSerial, message))
            }
            _ => Ok(()),
        }
    }
}
