//! What must hold of a manifest before anything relies on it.

use super::{Artifact, Image, Release, artifact};
use crate::layout;

/// What a release cannot do without.
const REQUIRED: [&str; 8] = [
    artifact::KERNEL,
    artifact::INITRAMFS,
    artifact::ROOT,
    artifact::STATE,
    artifact::GRUB_BIOS_BOOT,
    artifact::GRUB_BIOS_CORE,
    artifact::GRUB_EFI,
    artifact::GRUB_CFG,
];

/// The artifacts that are disk images, and the bytes that each may unpack to: its partition's.
const IMAGES: [(&str, u64); 2] =
    [(artifact::ROOT, layout::ROOT_SLOT_BYTES), (artifact::STATE, layout::STATE_MIN_BYTES)];

/// Frames unpack to a multiple of this: the largest logical sector of a disk, in bytes.
const FRAME_UNIT_BYTES: u64 = 4096;

/// Largest frame in bytes. One is held in memory whole, packed and unpacked, on machines with 512 MiB.
const FRAME_MAX_BYTES: u64 = 16 * layout::MIB;

/// Bytes of the ESP that stay for GRUB, its files and FAT's own tables.
const ESP_RESERVED_BYTES: u64 = 32 * layout::MIB;

/// GRUB's program for UEFI and its script are kept in memory; a real one has less than 2 MiB. Bytes.
const GRUB_FILE_MAX_BYTES: u64 = 8 * layout::MIB;

/// A boot sector: 512 bytes (`boot.img` of GRUB).
const BOOT_SECTOR_BYTES: u64 = 512;

impl Release {
    /// Checks what [`Release::parse`] promises; the error says what was found and expected.
    pub(super) fn check(&self) -> Result<(), String> {
        for name in self.artifacts.keys() {
            file_name(name)?;
        }
        for name in REQUIRED {
            self.get(name)?;
        }
        for (name, artifact) in &self.artifacts {
            artifact.check().map_err(|why| format!("`{name}`: {why}"))?;
        }
        for (name, limit) in IMAGES {
            let image = self
                .get(name)?
                .image
                .as_ref()
                .ok_or_else(|| format!("`{name}` is not described as an image"))?;
            if image.bytes > limit {
                return Err(format!("`{name}` unpacks to {} bytes; its partition has {limit}", image.bytes));
            }
        }
        self.check_boot_files()?;
        self.versions.runtime().map_err(|fault| fault.message)?;
        let id = self.compute_id();
        if self.id != id {
            return Err(format!("id `{}` does not belong to its artifacts, whose id is `{id}`", self.id));
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Result<&Artifact, String> {
        self.artifacts.get(name).ok_or_else(|| format!("no artifact `{name}`"))
    }

    /// Both slots' kernels and initramfs must fit into the ESP, GRUB's core into its partition.
    fn check_boot_files(&self) -> Result<(), String> {
        let boot = self.get(artifact::KERNEL)?.bytes.saturating_add(self.get(artifact::INITRAMFS)?.bytes);
        let room = (layout::ESP.bytes - ESP_RESERVED_BYTES) / 2;
        if boot > room {
            return Err(format!("kernel and initramfs have {boot} bytes; a slot has room for {room}"));
        }
        for name in [artifact::GRUB_EFI, artifact::GRUB_CFG] {
            let bytes = self.get(name)?.bytes;
            if bytes > GRUB_FILE_MAX_BYTES {
                return Err(format!("`{name}` has {bytes} bytes; at most {GRUB_FILE_MAX_BYTES} are taken"));
            }
        }
        let sector = self.get(artifact::GRUB_BIOS_BOOT)?.bytes;
        if sector != BOOT_SECTOR_BYTES {
            return Err(format!("`{}` has {sector} bytes; a boot sector has 512", artifact::GRUB_BIOS_BOOT));
        }
        let core = self.get(artifact::GRUB_BIOS_CORE)?.bytes;
        if core > layout::BIOS.bytes {
            let name = artifact::GRUB_BIOS_CORE;
            return Err(format!("`{name}` has {core} bytes; its partition has {}", layout::BIOS.bytes));
        }
        Ok(())
    }
}

impl Artifact {
    fn check(&self) -> Result<(), String> {
        if self.bytes == 0 {
            return Err("it is empty".to_owned());
        }
        match &self.image {
            Some(image) => image.check(self.bytes),
            None => Ok(()),
        }
    }
}

impl Image {
    /// `packed` is the file's size in bytes.
    fn check(&self, packed: u64) -> Result<(), String> {
        let unit = self.frame_bytes;
        if unit == 0 || !unit.is_multiple_of(FRAME_UNIT_BYTES) || unit > FRAME_MAX_BYTES {
            return Err(format!(
                "frames of {unit} bytes; expected a multiple of {FRAME_UNIT_BYTES} up to {FRAME_MAX_BYTES}"
            ));
        }
        if self.bytes == 0 || !self.bytes.is_multiple_of(FRAME_UNIT_BYTES) {
            return Err(format!(
                "an image of {} bytes; expected a multiple of {FRAME_UNIT_BYTES}",
                self.bytes
            ));
        }
        let (count, expected) = (self.frames.len() as u64, self.bytes.div_ceil(unit));
        if count != expected {
            return Err(format!("{count} frames; {} bytes in frames of {unit} make {expected}", self.bytes));
        }
        let sum = self.frames.iter().try_fold(0u64, |sum, frame| sum.checked_add(frame.bytes));
        if sum != Some(packed) {
            let sum = sum.map_or_else(|| "more than 2^64".to_owned(), |sum| sum.to_string());
            return Err(format!("its frames add up to {sum} bytes, the file has {packed}"));
        }
        // ZSTD_COMPRESSBOUND (zstd.h): what does not compress grows by 1/256 and a little.
        let bound = unit + unit / 256 + 64 * 1024;
        match self.frames.iter().position(|frame| frame.bytes == 0 || frame.bytes > bound) {
            Some(i) => {
                Err(format!("frame {i} has {} packed bytes; expected 1 to {bound}", self.frames[i].bytes))
            }
            None => Ok(()),
        }
    }
}

/// A name must be that of a file beside release.json, in URLs too.
pub(super) fn file_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!(
            "artifact name {name:?}; expected letters, digits and `._-+`, not beginning with a dot"
        ));
    }
    Ok(())
}
