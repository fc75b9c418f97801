//! Network interfaces as sysfs shows them (Documentation/ABI/testing/sysfs-class-net).

use crate::error::Result;
use crate::sysfs;
use std::path::Path;

/// `ARPHRD_ETHER` (include/uapi/linux/if_arp.h).
const ARPHRD_ETHER: u16 = 1;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name, e.g. `eth0`.
    pub name: String,
    /// MAC address, lower-case with colons.
    pub mac: Option<String>,
    /// Driver; `None` for an interface without a device (lo, bond, VLAN).
    pub driver: Option<String>,
    /// Whether a link partner is heard; `None` while the interface is down.
    pub carrier: Option<bool>,
    /// RFC 2863 state: `up`, `down`, `dormant`, `unknown`, …
    pub operstate: String,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
    /// Whether hardware (or a hypervisor's) is behind it.
    pub physical: bool,
}

/// Lists `class/net` below `sys`, sorted by name.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn interfaces(sys: &Path) -> Result<Vec<Interface>> {
    let class = sys.join("class/net");
    let mut found = Vec::new();
    for name in sysfs::names(&class)? {
        let dir = class.join(&name);
        // `bonding_masters` is a file among the interfaces.
        let Some(kind) = sysfs::number::<u16>(&dir, "type") else { continue };
        found.push(Interface {
            mac: sysfs::text(&dir, "address"),
            driver: sysfs::link_name(&dir, "device/driver"),
            carrier: sysfs::number::<u8>(&dir, "carrier").map(|value| value == 1),
            operstate: sysfs::text(&dir, "operstate").unwrap_or_else(|| "unknown".to_owned()),
            ethernet: kind == ARPHRD_ETHER,
            physical: dir.join("device").exists(),
            name,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::interfaces;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn interfaces_are_listed_with_their_driver() {
        let sys = tempfile::tempdir().unwrap();
        let class = sys.path().join("class/net");
        for (name, kind) in [("lo", "772\n"), ("eth0", "1\n")] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::write(class.join(name).join("type"), kind).unwrap();
        }
        fs::write(class.join("bonding_masters"), "").unwrap();
        let eth0 = class.join("eth0");
        fs::write(eth0.join("address"), "52:54:00:12:34:56\n").unwrap();
        fs::write(eth0.join("operstate"), "up\n").unwrap();
        fs::write(eth0.join("carrier"), "1\n").unwrap();
        fs::create_dir_all(eth0.join("device")).unwrap();
        symlink("../../../bus/virtio/drivers/virtio_net", eth0.join("device/driver")).unwrap();
        let found = interfaces(sys.path()).unwrap();
        assert_eq!(found.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["eth0", "lo"]);
        assert_eq!(found[0].driver.as_deref(), Some("virtio_net"));
        assert_eq!((found[0].carrier, found[0].ethernet, found[0].physical), (Some(true), true, true));
        assert_eq!((found[1].carrier, found[1].ethernet, found[1].physical), (None, false, false));
    }
}
