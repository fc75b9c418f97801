//! Interfaces made of others: bonds and VLANs.

use super::Engine;
use crate::net::device::Device;
use crate::net::netlink::{Interface, Result as Answer};
use tatara_spec::cmdline::BondArg;

impl Engine {
    /// Makes the bonds, and the VLANs whose parent is there.
    pub(super) async fn compose(&mut self, interfaces: &[Interface]) {
        let is_there = |name: &str| interfaces.iter().find(|interface| interface.name == name);
        for bond in self.args.bonds.clone() {
            if is_there(&bond.name).is_none() {
                let made = self.netlink.add_bond(&bond.name).await.map_err(|e| e.to_string());
                let made = made.and_then(|()| self.set_bond_options(&bond));
                self.note_made(&bond.name, made);
            } else if !self.made.contains(&bond.name) {
                // Loading the bonding module makes a bond0 (`max_bonds`); it serves as well.
                let made = self.set_bond_options(&bond);
                self.note_made(&bond.name, made);
            }
        }
        for vlan in self.args.vlans.clone() {
            if let (None, Some(parent)) = (is_there(&vlan.name), is_there(&vlan.parent)) {
                let made = self.netlink.add_vlan(&vlan.name, parent.index, vlan.id).await;
                self.note_made(&vlan.name, made.map_err(|e| e.to_string()));
            } else if is_there(&vlan.name).is_some() && !self.made.contains(&vlan.name) {
                self.made.push(vlan.name);
            }
        }
    }

    fn note_made(&mut self, name: &str, made: Result<(), String>) {
        let text = match &made {
            Ok(()) => format!("{name}: made"),
            Err(text) => format!("{name} could not be made: {text}"),
        };
        // It is tried again every second; said once is enough.
        if self.said.get(name) != Some(&text) {
            self.shared.event(text.clone());
            self.said.insert(name.to_owned(), text);
        }
        if made.is_ok() && !self.made.iter().any(|known| known == name) {
            self.made.push(name.to_owned());
        }
    }

    /// Bond options by their names, kernel `Documentation/networking/bonding.rst`, "Configuring Bonding Manually via Sysfs".
    /// The mode comes first: others depend on it.
    fn set_bond_options(&self, bond: &BondArg) -> Result<(), String> {
        let directory = self.root.join("sys/class/net").join(&bond.name).join("bonding");
        let (mode, rest): (Vec<_>, Vec<_>) = bond.options.iter().partition(|(key, _)| key == "mode");
        for (key, value) in mode.into_iter().chain(rest) {
            std::fs::write(directory.join(key), value).map_err(|e| format!("option {key}={value}: {e}"))?;
        }
        Ok(())
    }

    pub(super) async fn enslave(&self, device: &Device) -> Answer<()> {
        let name = &device.interface.name;
        let bond = self.args.bonds.iter().find(|bond| bond.members.contains(name));
        let bond = bond.and_then(|bond| self.devices.iter().find(|d| d.interface.name == bond.name));
        match bond {
            Some(bond) if !device.interface.member => {
                self.netlink.down(device.interface.index).await?;
                self.netlink.enslave(device.interface.index, bond.interface.index).await
            }
            Some(_) if !device.interface.up => self.netlink.up(device.interface.index).await,
            _ => Ok(()),
        }
    }
}
