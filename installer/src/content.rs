//! What a disk holds, from its bytes and, if it is ours, from its state partition.

use crate::cached::Pieces;
use crate::span::{Medium, get};
use crate::{bootenv, ext4, grub, write};
use rustix::io::Errno;
use tatara_disk::gpt::table::{self, Entry, Table};
use tatara_disk::probe;
use tatara_spec::layout::STATE;
use tatara_spec::plan::{Content, Installed};
use tatara_spec::record::InstallRecord;
use tatara_spec::{Code, Fault};

/// What was found, and what else the table says.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) content: Content,
    /// Labels of the partitions.
    pub(crate) labels: Vec<String>,
}

/// Reads the record on a disk whose partitions are ours; `None` when there is none.
pub(crate) type ReadRecord<'a> = &'a dyn Fn(&Entry) -> Result<Option<InstallRecord>, Fault>;

/// Judges a disk. A disk that cannot be read, or whose install cannot be understood, is [`Content::Unreadable`]: it is never taken
/// for empty or interrupted, so it is never overwritten by mistake.
pub(crate) fn judge(medium: &Medium<'_>, read_record: ReadRecord<'_>) -> Found {
    if write::is_marked(medium).unwrap_or(false) {
        return Found { content: Content::Interrupted, labels: Vec::new() };
    }
    match table::read(&mut medium.cached(Pieces::Small), medium.sector_bytes) {
        Err(error) => {
            let fault = Fault::caused(Code::DiskRead, "its partition table cannot be read", error);
            Found { content: Content::Unreadable(fault.chain()), labels: Vec::new() }
        }
        Ok(Some(table)) => {
            let labels = table.partitions.iter().map(|entry| entry.label.clone()).collect();
            let content = if table::is_ours(&table) {
                ours(medium, &table, read_record).unwrap_or_else(|fault| Content::Unreadable(fault.chain()))
            } else {
                foreign(medium)
            };
            Found { content, labels }
        }
        Ok(None) => Found { content: foreign(medium), labels: Vec::new() },
    }
}

fn ours(medium: &Medium<'_>, table: &Table, read_record: ReadRecord<'_>) -> Result<Content, Fault> {
    let state = crate::parts::entry(&table.partitions, &STATE)?;
    let mut head = [0; ext4::HEAD_BYTES];
    get(&medium.span(state), 0, &mut head).map_err(crate::fault::reading("the state partition"))?;
    // An install erases these bytes before anything else, and writes them when the file system behind them is complete.
    if head.iter().all(|&byte| byte == 0) {
        return without_record(medium, "its state partition is erased");
    }
    let record = match read_record(state) {
        Ok(Some(record)) => record,
        Ok(None) => return without_record(medium, "its state partition holds no install record"),
        Err(fault) if is_damage(&fault) => return without_record(medium, &fault.chain()),
        Err(fault) => return Err(fault),
    };
    let env = bootenv::read_from(medium, &table.partitions)
        .ok()
        .flatten()
        .unwrap_or_else(|| bootenv::assumed(&record));
    Ok(Content::Installed(Box::new(Installed { record, env })))
}

/// Whether what was read makes no sense, in contrast to what could not be read this time. ext4 says so of a superblock and of what it
/// describes (kernel, fs/ext4/ext4.h: `EFSBADCRC` is EBADMSG, `EFSCORRUPTED` EUCLEAN; mount(2): EINVAL).
fn is_damage(fault: &Fault) -> bool {
    let Some(source) = &fault.source else { return false };
    if source.is::<serde_json::Error>() {
        return true;
    }
    let number = source.downcast_ref::<tatara_sys::Error>().and_then(tatara_sys::Error::errno);
    match number.map(Errno::from_raw_os_error) {
        Some(Errno::BADMSG | Errno::UCLEAN) => true,
        // Other calls say it of what was asked for.
        Some(Errno::INVAL) => fault.code == Code::StateMount,
        _ => false,
    }
}

/// Our partitions, but no record. An install replaces the boot sector first ([`write::erase`]) and writes GRUB's last, when the record
/// is durable: with GRUB's there, the install was complete, and a node's state is lost, which nobody may take for a permission to
/// overwrite the rest.
fn without_record(medium: &Medium<'_>, lost: &str) -> Result<Content, Fault> {
    let mut sector = vec![0; medium.sector_bytes as usize];
    get(medium.target, 0, &mut sector).map_err(crate::fault::reading("the boot sector"))?;
    if !grub::has_boot_code(&write::head(&sector)) {
        return Ok(Content::Interrupted);
    }
    Ok(Content::Unreadable(format!(
        "it holds a node whose install was complete, but {lost}. Restore the partition `{}`; or, if the node may be lost, erase \
         the disk from another system (`wipefs --all` on the disk itself), and it is installed as an empty one",
        STATE.label
    )))
}

fn foreign(medium: &Medium<'_>) -> Content {
    match probe::signatures(&mut medium.cached(Pieces::Small), medium.bytes, medium.sector_bytes) {
        Err(error) => Content::Unreadable(format!("it cannot be read: {error}")),
        Ok(found) if found.is_empty() => Content::Empty,
        Ok(found) => Content::Foreign(found.iter().map(ToString::to_string).collect()),
    }
}

/// The label of the ESP on our USB sticks.
pub const USB_ESP_LABEL: &str = "tatara-usb-esp";
