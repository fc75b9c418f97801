//! Disks that are not what they should be: QEMU's block layer between the machine and the file, and a log of what was written, from
//! which the disk of any instant can be made.

use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const SECTOR: u64 = 512;

/// A node of QEMU's block layer as the name of an image.
pub(crate) fn path(node: &Value) -> PathBuf {
    PathBuf::from(format!("json:{}", json!({"driver": "raw", "file": node})))
}

/// What a disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuses {
    /// Reading.
    Reads,
    /// Writing.
    Writes,
}

/// A disk one of whose sectors of 512 bytes cannot be read or written (QEMU, docs/devel/blkdebug.rst).
#[must_use]
pub fn bad_sector(image: &Path, sector: u64, what: Refuses) -> Value {
    /// `EIO`.
    const ERROR: i32 = 5;
    let kind = match what {
        Refuses::Reads => "read",
        Refuses::Writes => "write",
    };
    json!({
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": image},
        "inject-error": [{"event": "none", "iotype": kind, "errno": ERROR, "sector": sector, "once": false}],
    })
}

/// A disk of which everything written is also written to a log, in order (QEMU, block/blklogwrites.c).
///
/// # Panics
/// When the log cannot be made.
#[must_use]
pub fn logged(image: &Path, log: &Path) -> Value {
    File::create(log).expect("the log of writes");
    json!({
        "driver": "blklogwrites",
        "file": {"driver": "file", "filename": image, "discard": "unmap"},
        "log": {"driver": "file", "filename": log},
    })
}

/// What a disk was told, in order; the format is dm-log-writes' (kernel, Documentation/admin-guide/device-mapper/log-writes.rst).
#[derive(Debug)]
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// What was written before is on the medium.
    Flush,
    /// In bytes: where on the disk, how many, and where in the log they are; discarded bytes are nowhere.
    Write { at: u64, bytes: u64, data: Option<u64> },
}

/// What a disk does with its cache when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// It has none: every write is on the medium at once.
    None,
    /// Of the sectors written since the last flush any half is lost; the number chooses it.
    Loses(u64),
    /// The same, but it lies about flushes too: this many of them were none.
    Lies(u64, usize),
}

impl Log {
    /// Reads a log to its end.
    ///
    /// # Panics
    /// When it is no log.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        const MAGIC: u64 = 0x006a_7366_7773_6872;
        let file = File::open(path).expect("the log of writes");
        let head = sector(&file, 0).expect("its first sector");
        assert_eq!(number(&head, 0), MAGIC, "{} is no log of writes", path.display());
        assert_eq!(number(&head, 24) as u32 as u64, SECTOR, "another sector size");
        let mut entries = Vec::new();
        let end = file.metadata().expect("its length").len();
        let mut next = SECTOR;
        // The number of entries in the head is written now and then only: the log ends where the file does.
        while let Some(entry) = sector(&file, next) {
            let [at, sectors, flags] = [0, 8, 16].map(|field| number(&entry, field));
            let bytes = sectors * SECTOR;
            let has_data = bytes > 0 && flags & DISCARD == 0;
            if sectors == 0 && flags == 0 || has_data && next + SECTOR + bytes > end {
                // The machine was ended while it wrote: QEMU writes entries side by side.
                break;
            }
            if flags & FLUSH != 0 {
                entries.push(Entry::Flush);
            }
            let data = has_data.then_some(next + SECTOR);
            if bytes > 0 {
                entries.push(Entry::Write { at: at * SECTOR, bytes, data });
            }
            if flags & FORCED != 0 {
                entries.push(Entry::Flush);
            }
            next += SECTOR + if has_data { bytes } else { 0 };
        }
        Self { file, entries }
    }

    /// Bytes written in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes()).sum()
    }

    /// Makes the disk as it is when the power goes after this many bytes were written.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn replay(&self, bytes: u64, cache: Cache, disk: &Path) {
        let gib = std::fs::metadata(disk).expect("the disk").len();
        let blank = File::create(disk).expect("the disk");
        blank.set_len(gib).expect("its size");
        self.replay_over(bytes, cache, disk);
    }

    /// The same on a disk that is as it was when the log began.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn replay_over(&self, bytes: u64, cache: Cache, disk: &Path) {
        let disk = File::options().read(true).write(true).open(disk).expect("the disk");
        let durable = self.durable(bytes, cache);
        let mut done = 0;
        for (i, entry) in self.entries.iter().enumerate() {
            let left = bytes - done;
            if left == 0 {
                break;
            }
            done += entry.bytes().min(left);
            let Entry::Write { at, bytes, data } = *entry else { continue };
            let bytes = bytes.min(left / SECTOR * SECTOR);
            let mut content = vec![0; usize::try_from(bytes).expect("a write fits memory")];
            if let Some(data) = data {
                self.file.read_exact_at(&mut content, data).expect("the log's data");
            }
            for (n, piece) in (0_u64..).zip(content.chunks(SECTOR as usize)) {
                let at = at + n * SECTOR;
                if i < durable || cache.keeps(at, i) {
                    put(&disk, at, piece);
                }
            }
        }
    }

    /// How many entries are surely on the medium then: those before the last flush that was none of the lies.
    fn durable(&self, bytes: u64, cache: Cache) -> usize {
        let mut done = 0;
        let mut flushes = vec![0];
        for (i, entry) in self.entries.iter().enumerate() {
            done += entry.bytes();
            if done > bytes {
                break;
            }
            if *entry == Entry::Flush {
                flushes.push(i);
            }
        }
        match cache {
            Cache::None => usize::MAX,
            Cache::Loses(_) => flushes[flushes.len() - 1],
            Cache::Lies(_, lies) => flushes[flushes.len().saturating_sub(1 + lies)],
        }
    }
}

/// Flags of an entry.
const FLUSH: u64 = 1;
const FORCED: u64 = 2;
const DISCARD: u64 = 4;

impl Entry {
    fn bytes(self) -> u64 {
        match self {
            Entry::Flush => 0,
            Entry::Write { bytes, .. } => bytes,
        }
    }
}

impl Cache {
    /// Whether a sector that was not flushed is on the medium all the same.
    fn keeps(self, at: u64, entry: usize) -> bool {
        match self {
            Cache::None => true,
            Cache::Loses(seed) | Cache::Lies(seed, _) => {
                crate::seed::mixed(seed ^ at ^ (entry as u64) << 40) & 1 == 0
            }
        }
    }
}

/// Zeros are put too, over what was there; on a new file they leave a hole.
fn put(disk: &File, at: u64, sector: &[u8]) {
    let mut old = [0; SECTOR as usize];
    disk.read_exact_at(&mut old[..sector.len()], at).expect("the disk");
    if old[..sector.len()] != *sector {
        disk.write_all_at(sector, at).expect("the disk");
    }
}

fn sector(file: &File, at: u64) -> Option<[u8; SECTOR as usize]> {
    let mut bytes = [0; SECTOR as usize];
    file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
