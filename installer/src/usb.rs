//! The USB stick: a plain file with the same table, FAT and GRUB as a disk, but one kernel and a file for kernel arguments.

use crate::artifact::Directory;
use crate::cached::Pieces;
use crate::content::USB_ESP_LABEL;
use crate::fault::{because, table as table_fault, writing};
use crate::span::Medium;
use crate::{artifact, esp, write};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use tatara_disk::gpt::table::{self, Entry, Guid};
use tatara_disk::stream::{FileTarget, Target};
use tatara_spec::layout::{ALIGNMENT_BYTES, BIOS, ESP, MIB, TABLE_BYTES, esp as esp_path};
use tatara_spec::release::{Artifact, Digest, Release};
use tatara_spec::slot::GRUB_USB_CFG;
use tatara_spec::{Code, Fault};

/// Sticks have sectors of 512 bytes.
const SECTOR_BYTES: u32 = 512;
/// Room beside kernel and initramfs, in bytes: GRUB, FAT's structures, and an operator's own files.
const SPARE_BYTES: u64 = 16 * MIB;
/// FAT32 needs 65525 clusters of one sector (Microsoft's FAT specification 1.03, "FAT type determination"), and its two tables.
const ESP_MIN_BYTES: u64 = 34 * MIB;
/// Volume label, at most 11 characters.
const LABEL: &str = "TATARA-USB";

const README: &str = "tatara installer stick.\r\n\r\n\
    Write kernel arguments into args.cfg, between single quotes, e.g.\r\n\
    set args='tatara.config=https://SERVER/nodes/${mac}.yaml tatara.ca=sha256:HEX'\r\n\r\n\
    A machine that boots from this stick fetches its config from there and installs itself.\r\n";

/// What was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Size of the image in bytes.
    pub bytes: u64,
}

/// Writes the image of a stick with `args` as kernel arguments to `out`, from the release in `release_dir`. No privileges are needed;
/// the same release and arguments give the same bytes.
///
/// # Errors
/// [`Code::PayloadDigest`], [`Code::PayloadShort`], [`Code::ReleaseBad`] for the release's files; [`Code::CmdlineBad`] for arguments
/// that GRUB cannot pass on; [`Code::DiskWrite`].
pub fn build(out: &mut File, release_dir: &Path, args: &str) -> Result<Image, Fault> {
    let release = &manifest(release_dir)?;
    let files = artifact::fetch_all(release, &Directory(release_dir.to_owned()))?;
    let args_cfg = args_cfg(args)?;
    let length = |file: &File| file.metadata().map(|stat| stat.len()).map_err(writing("the stick"));
    let kernel = length(&files.handover.kernel)?.saturating_add(length(&files.handover.initramfs)?);
    let esp_bytes = (kernel + SPARE_BYTES).max(ESP_MIN_BYTES).next_multiple_of(ALIGNMENT_BYTES);
    let bytes = TABLE_BYTES + BIOS.bytes + esp_bytes;
    let target = FileTarget::sparse(out.try_clone().map_err(writing("the stick"))?, bytes)
        .map_err(writing("the stick"))?;
    let medium = Medium { target: &target, bytes, sector_bytes: SECTOR_BYTES };
    let identity = identity(release);
    let [bios, esp] = partitions(&identity, esp_bytes)?;

    let mut view = medium.cached(Pieces::Large);
    let parts = [bios.clone(), esp.clone()];
    table::write_with_guid(&mut view, SECTOR_BYTES, bytes, &parts, guid(&identity, "disk"))
        .map_err(table_fault)?;
    view.sync().map_err(writing("the partition table"))?;
    esp::format(&medium, &esp, LABEL, guid(&identity, "volume").as_fields().0)?;
    let list = [
        ("vmlinuz".to_owned(), esp::Content::File(&files.handover.kernel)),
        ("initramfs.zst".to_owned(), esp::Content::File(&files.handover.initramfs)),
        (esp_path::GRUB_CFG.to_owned(), esp::Content::Bytes(GRUB_USB_CFG.as_bytes())),
        ("args.cfg".to_owned(), esp::Content::Bytes(args_cfg.as_bytes())),
        ("README.txt".to_owned(), esp::Content::Bytes(README.as_bytes())),
        (esp_path::UEFI_LOADER.to_owned(), esp::Content::Bytes(&files.grub_efi)),
    ];
    esp::write(&medium, &esp, &list)?;
    esp::verify(&medium, &esp, &list)?;
    write::bios_core(&medium, &bios, &files)?;
    write::write_boot_sector(&medium, &bios)?;
    target.flush().map_err(writing("the stick"))?;
    Ok(Image { bytes })
}

/// The release's manifest; or, while the release is being made, one of the files as they are.
fn manifest(directory: &Path) -> Result<Release, Fault> {
    let path = directory.join("release.json");
    match std::fs::read(&path) {
        Ok(text) => Release::parse(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => as_they_are(directory),
        Err(error) => Err(Fault::caused(Code::ReleaseBad, format!("cannot read {}", path.display()), error)),
    }
}

fn as_they_are(directory: &Path) -> Result<Release, Fault> {
    let mut artifacts = BTreeMap::new();
    for name in artifact::SMALL {
        let path = directory.join(name);
        let file = std::fs::read(&path)
            .map_err(because(Code::ReleaseBad, format!("cannot read {}", path.display())))?;
        let sha256 = Digest(Sha256::digest(&file).into());
        artifacts.insert(name.to_owned(), Artifact { bytes: file.len() as u64, sha256, image: None });
    }
    let mut release = Release { artifacts, ..Release::default() };
    release.id = release.compute_id();
    Ok(release)
}

/// What the GUIDs follow from: the files on the stick, so that they are the same before and after the manifest is written.
fn identity(release: &Release) -> String {
    let mut small = release.clone();
    small.artifacts.retain(|name, _| artifact::SMALL.contains(&name.as_str()));
    small.compute_id()
}

/// BIOS boot partition and ESP.
fn partitions(release: &str, esp_bytes: u64) -> Result<[Entry; 2], Fault> {
    let entry = |number, label: &str, type_guid: &str, first_byte, bytes| -> Result<Entry, Fault> {
        let type_guid =
            type_guid.parse().map_err(because(Code::Internal, format!("partition type {type_guid}")))?;
        Ok(Entry {
            number,
            label: label.to_owned(),
            type_guid,
            first_byte,
            bytes,
            guid: guid(release, label),
        })
    };
    Ok([
        entry(1, "tatara-usb-bios", BIOS.type_guid, ALIGNMENT_BYTES, BIOS.bytes)?,
        entry(2, USB_ESP_LABEL, ESP.type_guid, ALIGNMENT_BYTES + BIOS.bytes, esp_bytes)?,
    ])
}

/// A GUID that follows from the release, so that a second build gives the same image.
fn guid(release: &str, what: &str) -> Guid {
    let digest = Sha256::digest(format!("{release} {what}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // RFC 9562, section 5.8: version 8 is for what an application makes up.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Guid::from_bytes(bytes)
}

/// `args.cfg`: one line, in single quotes, so that GRUB leaves `${mac}` to us.
fn args_cfg(args: &str) -> Result<String, Fault> {
    let usable = args.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"'\\".contains(&byte));
    if !usable {
        let text = format!("kernel arguments {args:?} hold a quote, a backslash or a control character");
        return Err(Fault::new(Code::CmdlineBad, text));
    }
    Ok(format!("set args='{args}'\n"))
}
