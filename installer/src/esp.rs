//! The EFI system partition: what is put on it, read from it and compared. The kernel never mounts it.

use crate::artifact::{BootFiles, Handover, memfd, rewind};
use crate::cached::Pieces;
use crate::fault::{esp_read, esp_write, reading, writing};
use crate::span::Medium;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use tatara_disk::fat::{self, FormatOptions, Volume};
use tatara_disk::gpt::table::Entry;
use tatara_spec::layout::{MIB, esp};
use tatara_spec::slot::Slot;
use tatara_spec::{Code, Fault};

/// Volume label, at most 11 characters.
const LABEL: &str = "TATARA-ESP";
/// What a kernel or an initramfs may have at most, in bytes: far above any real one, far below a machine's memory.
const FILE_MAX_BYTES: u64 = 256 * MIB;
/// Room for FAT's own structures, directories and GRUB's small files.
const OVERHEAD_BYTES: u64 = 4 * MIB;

/// A file to write: path on the ESP and where it comes from.
pub(crate) enum Content<'a> {
    Bytes(&'a [u8]),
    File(&'a File),
}

impl Content<'_> {
    fn bytes(&self) -> std::io::Result<u64> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::File(file) => Ok(file.metadata()?.len()),
        }
    }

    fn reader(&self) -> std::io::Result<Box<dyn Read + '_>> {
        match self {
            Content::Bytes(bytes) => Ok(Box::new(*bytes)),
            Content::File(file) => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(0))?;
                Ok(Box::new(file))
            }
        }
    }
}

/// Whether kernel and initramfs of `bytes` together fit twice, once a slot, on an ESP of `esp_bytes`.
pub(crate) fn fits(bytes: u64, esp_bytes: u64) -> bool {
    bytes.saturating_mul(2).saturating_add(OVERHEAD_BYTES) <= esp_bytes
}

/// Makes an empty file system.
pub(crate) fn format(medium: &Medium<'_>, entry: &Entry, label: &str, volume_id: u32) -> Result<(), Fault> {
    let options = FormatOptions {
        bytes: entry.bytes,
        sector_bytes: medium.sector_bytes,
        label: label.to_owned(),
        volume_id,
    };
    let mut view = medium.cached_part(entry, Pieces::Large);
    fat::format(&mut view, &options).map_err(esp_write)?;
    view.sync().map_err(writing("the EFI system partition"))
}

/// Writes files, durable when this returns.
pub(crate) fn write(
    medium: &Medium<'_>,
    entry: &Entry,
    files: &[(String, Content<'_>)],
) -> Result<(), Fault> {
    let mut volume = Volume::open(medium.cached_part(entry, Pieces::Large)).map_err(esp_write)?;
    for (path, content) in files {
        let bytes = content.bytes().map_err(reading(path))?;
        let mut reader = content.reader().map_err(reading(path))?;
        volume.write(path, &mut reader, bytes).map_err(esp_write)?;
    }
    volume.into_inner().sync().map_err(writing("the EFI system partition"))
}

/// Reads files back from the device and compares them.
pub(crate) fn verify(
    medium: &Medium<'_>,
    entry: &Entry,
    files: &[(String, Content<'_>)],
) -> Result<(), Fault> {
    let mut volume = Volume::open(medium.cached_part(entry, Pieces::Large)).map_err(esp_read)?;
    for (path, content) in files {
        let found = volume.read(path, FILE_MAX_BYTES).map_err(esp_read)?;
        let mut wanted = content.reader().map_err(reading(path))?;
        if !same(&found, &mut wanted).map_err(reading(path))? {
            let text = format!("{path} on the EFI system partition reads back differently");
            return Err(Fault::new(Code::DiskVerify, text));
        }
    }
    Ok(())
}

fn same(found: &[u8], wanted: &mut dyn Read) -> std::io::Result<bool> {
    let mut piece = vec![0; 64 * 1024];
    let mut rest = found;
    loop {
        let got = wanted.read(&mut piece)?;
        if got == 0 {
            return Ok(rest.is_empty());
        }
        match rest.split_at_checked(got) {
            Some((head, tail)) if head == &piece[..got] => rest = tail,
            _ => return Ok(false),
        }
    }
}

/// Formats the ESP of an installed disk.
pub(crate) fn format_installed(medium: &Medium<'_>, entry: &Entry) -> Result<(), Fault> {
    let mut id = [0; 4];
    id.copy_from_slice(&entry.guid.as_bytes()[..4]);
    format(medium, entry, LABEL, u32::from_le_bytes(id))
}

/// A slot's kernel, initramfs and node.cfg.
pub(crate) fn slot_files<'a>(
    slot: Slot,
    handover: &'a Handover,
    node_cfg: &'a [u8],
) -> Vec<(String, Content<'a>)> {
    vec![
        (esp::kernel(slot), Content::File(&handover.kernel)),
        (esp::initramfs(slot), Content::File(&handover.initramfs)),
        (esp::node_cfg(slot), Content::Bytes(node_cfg)),
    ]
}

/// GRUB's own files, but the loader that firmware looks for.
pub(crate) fn grub_files<'a>(files: &'a BootFiles, grubenv: &'a [u8]) -> Vec<(String, Content<'a>)> {
    vec![
        (esp::GRUB_CFG.to_owned(), Content::Bytes(&files.grub_cfg)),
        (esp::GRUBENV.to_owned(), Content::Bytes(grubenv)),
    ]
}

/// A small file; `None` when it is not there.
pub(crate) fn read_small(medium: &Medium<'_>, entry: &Entry, path: &str) -> Result<Option<Vec<u8>>, Fault> {
    let mut volume = Volume::open(medium.cached_part(entry, Pieces::Small)).map_err(esp_read)?;
    volume.read_if_exists(path, MIB).map_err(esp_read)
}

/// Overwrites a file in place, data only.
pub(crate) fn overwrite(medium: &Medium<'_>, entry: &Entry, path: &str, bytes: &[u8]) -> Result<(), Fault> {
    let mut volume = Volume::open(medium.cached_part(entry, Pieces::Small)).map_err(esp_read)?;
    volume.overwrite(path, bytes).map_err(esp_write)?;
    volume.into_inner().sync().map_err(writing(path))
}

/// Free bytes, with those of `replaced` counted as free.
pub(crate) fn room(medium: &Medium<'_>, entry: &Entry, replaced: &[String]) -> Result<u64, Fault> {
    let mut volume = Volume::open(medium.cached_part(entry, Pieces::Large)).map_err(esp_read)?;
    let mut room = volume.free_bytes().map_err(esp_read)?;
    for path in replaced {
        let old = volume.read_if_exists(path, FILE_MAX_BYTES).map_err(esp_read)?;
        room += old.map_or(0, |bytes| bytes.len() as u64);
    }
    Ok(room)
}

/// A slot's kernel and initramfs in memory.
pub(crate) fn load(medium: &Medium<'_>, entry: &Entry, slot: Slot) -> Result<Handover, Fault> {
    let mut volume = Volume::open(medium.cached_part(entry, Pieces::Large)).map_err(esp_read)?;
    let mut load = |path: &str| -> Result<File, Fault> {
        let bytes = volume.read(path, FILE_MAX_BYTES).map_err(esp_read)?;
        let mut file = memfd(path)?;
        file.write_all(&bytes)
            .map_err(|cause| Fault::caused(Code::Sys, format!("no memory for {path}"), cause))?;
        rewind(&mut file, path)?;
        Ok(file)
    };
    Ok(Handover { kernel: load(&esp::kernel(slot))?, initramfs: load(&esp::initramfs(slot))? })
}
