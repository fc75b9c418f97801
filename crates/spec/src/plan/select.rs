//! Which disks `install.disk` matches, and why the others do not.

use super::Disk;
use crate::config::{DiskSelector, DiskTransport};
use crate::size;

/// The disks that a selector matches: all of its conditions hold, and it is not the boot medium.
#[must_use]
pub fn matching<'a>(selector: &DiskSelector, disks: &'a [Disk]) -> Vec<&'a Disk> {
    disks.iter().filter(|disk| mismatch(selector, disk).is_none()).collect()
}

/// Why a selector does not match a disk: the first condition that does not hold, in words. `None` when it matches.
///
/// A condition that cannot be understood (a bad glob or size, which `config check` refuses) matches nothing.
#[must_use]
pub fn mismatch(selector: &DiskSelector, disk: &Disk) -> Option<String> {
    if disk.boot_medium {
        return Some("it is a USB stick of ours, or this machine was booted from it".to_owned());
    }
    if disk.bytes == 0 {
        return Some("it has no medium".to_owned());
    }
    let transport = selector.transport.map(|transport| transport_name(transport).to_owned());
    exact("path", selector.path.as_deref(), Some(&disk.path))
        .or_else(|| wwn(selector.wwn.as_deref(), disk.wwn.as_deref()))
        .or_else(|| exact("serial", selector.serial.as_deref(), disk.serial.as_deref()))
        .or_else(|| model(selector.model.as_deref(), disk.model.as_deref()))
        .or_else(|| exact("transport", transport.as_deref(), disk.transport.as_deref()))
        .or_else(|| limits(selector, disk.bytes))
        .or_else(|| match selector.rotational {
            Some(wanted) if wanted != disk.rotational => Some(format!("rotational is {}", disk.rotational)),
            _ => None,
        })
}

fn transport_name(transport: DiskTransport) -> &'static str {
    match transport {
        DiskTransport::Nvme => "nvme",
        DiskTransport::Sata => "sata",
        DiskTransport::Scsi => "scsi",
        DiskTransport::Sas => "sas",
        DiskTransport::Usb => "usb",
        DiskTransport::Virtio => "virtio",
        DiskTransport::Mmc => "mmc",
    }
}

fn exact(what: &str, wanted: Option<&str>, found: Option<&str>) -> Option<String> {
    let wanted = wanted?;
    (found != Some(wanted)).then(|| differs(what, found, wanted))
}

fn differs(what: &str, found: Option<&str>, wanted: &str) -> String {
    match found {
        Some(found) => format!("{what} is `{found}`, not `{wanted}`"),
        None => format!("it has no {what}, wanted is `{wanted}`"),
    }
}

/// udev and lsblk write an NAA name as `0x5000…`, sysfs as `naa.5000…`; letters in either case.
fn wwn(wanted: Option<&str>, found: Option<&str>) -> Option<String> {
    let plain = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.strip_prefix("0x").or_else(|| name.strip_prefix("naa.")).map(str::to_owned).unwrap_or(name)
    };
    let wanted = wanted?;
    (found.map(plain) != Some(plain(wanted))).then(|| differs("wwn", found, wanted))
}

fn model(wanted: Option<&str>, found: Option<&str>) -> Option<String> {
    let wanted = wanted?;
    let Ok(glob) = glob::Pattern::new(wanted) else {
        return Some(format!("`{wanted}` is not a valid glob for its model"));
    };
    let matches = found.is_some_and(|model| glob.matches(model));
    (!matches).then(|| differs("model", found, wanted))
}

fn limits(selector: &DiskSelector, bytes: u64) -> Option<String> {
    let limit = |text: &Option<String>| text.as_deref().map(size::parse).transpose();
    match (limit(&selector.min_size), limit(&selector.max_size)) {
        (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
        (Ok(Some(min)), _) if bytes < min => Some(format!("its {bytes} bytes are less than minSize, {min}")),
        (_, Ok(Some(max))) if bytes > max => Some(format!("its {bytes} bytes are more than maxSize, {max}")),
        _ => None,
    }
}
