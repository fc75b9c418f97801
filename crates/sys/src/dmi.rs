//! What the firmware says about the machine: SMBIOS by way of sysfs (Documentation/ABI/testing/sysfs-firmware-dmi-entries,
//! drivers/firmware/dmi-id.c).

use crate::sysfs;
use std::path::Path;

/// Identity of the machine; a field is `None` when the firmware leaves it empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dmi {
    /// System UUID, lower-case.
    pub uuid: Option<String>,
    /// System serial number.
    pub serial: Option<String>,
    /// System manufacturer.
    pub vendor: Option<String>,
    /// Product name.
    pub product: Option<String>,
}

/// Reads `class/dmi/id` below `sys`.
#[must_use]
pub fn read(sys: &Path) -> Dmi {
    let id = sys.join("class/dmi/id");
    Dmi {
        uuid: sysfs::text(&id, "product_uuid").map(|uuid| uuid.to_ascii_lowercase()),
        serial: sysfs::text(&id, "product_serial"),
        vendor: sysfs::text(&id, "sys_vendor"),
        product: sysfs::text(&id, "product_name"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dmi, read};
    use std::fs;

    #[test]
    fn empty_fields_are_absent_and_the_uuid_is_lower_case() {
        let sys = tempfile::tempdir().unwrap();
        let id = sys.path().join("class/dmi/id");
        fs::create_dir_all(&id).unwrap();
        fs::write(id.join("product_uuid"), "4C4C4544-0042-3510-8051-B4C04F303232\n").unwrap();
        fs::write(id.join("product_serial"), "\n").unwrap();
        fs::write(id.join("sys_vendor"), "QEMU\n").unwrap();
        let wanted = Dmi {
            uuid: Some("4c4c4544-0042-3510-8051-b4c04f303232".into()),
            vendor: Some("QEMU".into()),
            ..Dmi::default()
        };
        assert_eq!(read(sys.path()), wanted);
    }
}
