//! Which devices get their drivers at which stage of the boot, judged by modalias alone.

/// What drivers are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Disks that are there as soon as their driver is: NVMe, virtio, Xen. The others' links must come up first.
    Direct,
    /// Disks on PCI, virtio, SCSI, MMC and Xen: enough for a boot from the disk.
    Storage,
    /// USB: host controllers, storage, keyboards. Its enumeration takes seconds, so only when needed.
    Usb,
    /// Disks on any of these buses: before one is chosen, all must be known.
    AnyDisk,
    /// What systemd itself loads drivers for before all else (systemd, src/core/kmod-setup.c): sources of entropy and credentials;
    /// and the power button.
    Early,
    /// Network cards.
    Network,
    /// Every device.
    All,
}

/// Offset of `bcXXscXX` in a PCI modalias, whose fields have fixed widths (drivers/pci/pci-sysfs.c, modalias_show).
const PCI_CLASS_OFFSET: usize = "pci:v00000000d00000000sv00000000sd00000000".len();

impl Class {
    /// The buses below /sys/bus whose devices can belong to the class; `None` means all.
    pub fn buses(self) -> Option<&'static [&'static str]> {
        match self {
            Class::Direct => Some(&["pci", "virtio", "scsi", "xen"]),
            Class::Storage => Some(&["pci", "virtio", "scsi", "mmc", "xen"]),
            Class::Usb => Some(&["pci", "usb", "hid", "scsi"]),
            Class::AnyDisk => Some(&["pci", "virtio", "scsi", "mmc", "xen", "usb", "hid"]),
            Class::Early => Some(&["virtio", "acpi"]),
            Class::Network => Some(&["pci", "virtio", "xen"]),
            Class::All => None,
        }
    }

    /// Whether a device belongs to the class.
    pub fn wants(self, modalias: &str) -> bool {
        match self {
            Class::All => true,
            Class::Direct => {
                // 0108: NVM controllers. 1af4 is virtio's vendor (virtio specification 1.2, section 4.1.2).
                pci_class(modalias, &["bc01sc08"])
                    || modalias.starts_with("pci:v00001AF4") && pci_class(modalias, &["bc01"])
                    || is_paravirtual(modalias)
                    || is_scsi_disk(modalias)
            }
            Class::Storage => {
                // 01: mass storage. 0805: SD host controllers.
                pci_class(modalias, &["bc01", "bc08sc05"])
                    || modalias.starts_with("mmc:block")
                    || is_paravirtual(modalias)
                    || is_scsi_disk(modalias)
            }
            Class::Usb => {
                // 0c03: USB controllers.
                pci_class(modalias, &["bc0Csc03"])
                    // Interface classes (usb.org, "Defined Class Codes"): 08 mass storage, 03 human interface.
                    || modalias.starts_with("usb:")
                        && (modalias.contains("ic08isc") || modalias.contains("ic03isc"))
                    || modalias.starts_with("hid:")
                    || is_scsi_disk(modalias)
            }
            Class::AnyDisk => Class::Storage.wants(modalias) || Class::Usb.wants(modalias),
            // virtio device id 4: entropy source. QEMU0002: fw_cfg (QEMU, docs/specs/fw_cfg.rst). LNXPWRBN, PNP0C0C: the power
            // button as fixed hardware and as a device (kernel, drivers/acpi/button.c).
            Class::Early => {
                starts(modalias, &["virtio:d00000004", "acpi:QEMU0002:", "acpi:LNXPWRBN:", "acpi:PNP0C0C:"])
            }
            Class::Network => {
                // 02: network controllers. virtio device id 1: network card.
                pci_class(modalias, &["bc02"]) || starts(modalias, &["virtio:d00000001", "xen:vif"])
            }
        }
    }
}

fn starts(modalias: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| modalias.starts_with(prefix))
}

fn pci_class(modalias: &str, classes: &[&str]) -> bool {
    modalias.starts_with("pci:")
        && modalias.get(PCI_CLASS_OFFSET..).is_some_and(|class| starts(class, classes))
}

/// virtio device ids: virtio specification 1.2, section 5: 2 block, 8 SCSI host.
fn is_paravirtual(modalias: &str) -> bool {
    starts(modalias, &["virtio:d00000002", "virtio:d00000008", "xen:vbd"])
}

/// SCSI peripheral device types (SPC-4, "Peripheral device type"): 00 direct access, 0e simplified, 14 host-managed zones.
fn is_scsi_disk(modalias: &str) -> bool {
    starts(modalias, &["scsi:t-0x00", "scsi:t-0x0e", "scsi:t-0x14"])
}

#[cfg(test)]
mod tests {
    use super::Class;

    const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
    const E1000E: &str = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";
    const XHCI: &str = "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30";
    const VGA: &str = "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00";
    const SDHCI: &str = "pci:v00008086d00000F16sv00001043sd0000108Dbc08sc05i01";
    const STICK: &str = "usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00";
    const HUB: &str = "usb:v1D6Bp0002d0606dc09dsc00dp00ic09isc00ip00in00";

    #[test]
    fn direct_disks_need_no_link_to_come_up() {
        for (modalias, direct) in [
            (NVME, true),
            ("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", true),
            ("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", false),
            ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", false),
            ("virtio:d00000002v00001AF4", true),
            ("virtio:d00000001v00001AF4", false),
            ("scsi:t-0x00", true),
            (SDHCI, false),
        ] {
            assert_eq!(Class::Direct.wants(modalias), direct, "{modalias}");
        }
    }

    #[test]
    fn classes_take_their_devices_only() {
        for (modalias, storage, usb, network) in [
            (NVME, true, false, false),
            (E1000E, false, false, true),
            (XHCI, false, true, false),
            (VGA, false, false, false),
            (SDHCI, true, false, false),
            (STICK, false, true, false),
            (HUB, false, false, false),
            ("virtio:d00000002v00001AF4", true, false, false),
            ("virtio:d00000008v00001AF4", true, false, false),
            ("virtio:d00000001v00001AF4", false, false, true),
            ("virtio:d00000004v00001AF4", false, false, false),
            ("scsi:t-0x00", true, true, false),
            ("scsi:t-0x05", false, false, false),
            ("hid:b0003g0001v00000627p00000001", false, true, false),
            ("acpi:PNP0501:", false, false, false),
            ("pci:v00001B36", false, false, false),
            ("", false, false, false),
        ] {
            assert_eq!(Class::Storage.wants(modalias), storage, "storage {modalias}");
            assert!(storage || !Class::Direct.wants(modalias), "direct without storage {modalias}");
            assert_eq!(Class::Usb.wants(modalias), usb, "usb {modalias}");
            assert_eq!(Class::AnyDisk.wants(modalias), storage || usb, "any disk {modalias}");
            assert_eq!(Class::Network.wants(modalias), network, "network {modalias}");
            assert!(Class::All.wants(modalias));
        }
    }
}
