//! Power cuts at every point of an install: on a disk in memory that loses any part of what was written since its last flush.

use crate::artifact::{Progress, Source, fetch_all};
use crate::content::judge;
use crate::install::{Job, whole_disk};
use crate::span::{Medium, get, put};
use crate::{bootenv, esp, parts, write};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::sync::{LazyLock, Mutex};
use tatara_disk::gpt::table::Entry;
use tatara_disk::stream::{Target, pack};
use tatara_spec::layout::{DISK_MIN_BYTES, ESP, STATE, esp as esp_path};
use tatara_spec::plan::{self, Content};
use tatara_spec::record::InstallRecord;
use tatara_spec::release::{Artifact, Digest, Release, artifact as name};
use tatara_spec::slot::Slot;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

const SECTOR: u64 = 512;
type Sector = Box<[u8]>;

#[derive(Default)]
struct Inner {
    /// What a read gives; a sector that is not there is zeros.
    sectors: HashMap<u64, Sector>,
    /// What sectors were at the last flush, of those written since.
    unflushed: BTreeMap<u64, Option<Sector>>,
    operations: usize,
    /// The number of operations after which the power is cut.
    cut: Option<usize>,
}

/// A disk in memory.
#[derive(Default)]
pub(crate) struct FakeDisk(Mutex<Inner>);

impl FakeDisk {
    fn medium(&self) -> Medium<'_> {
        Medium { target: self, bytes: DISK_MIN_BYTES, sector_bytes: SECTOR as u32 }
    }

    fn operate<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> io::Result<T> {
        let mut inner = self.0.lock().unwrap();
        if inner.cut.is_some_and(|cut| inner.operations >= cut) {
            return Err(io::Error::other("the power is cut"));
        }
        inner.operations += 1;
        Ok(act(&mut inner))
    }

    fn operations(&self) -> usize {
        self.0.lock().unwrap().operations
    }

    fn cut_after(&self, operations: usize) {
        let mut inner = self.0.lock().unwrap();
        inner.cut = Some(inner.operations + operations);
    }

    /// The power is back; of what was not flushed, `seed` says what was lost.
    fn restart(&self, mut seed: u64) {
        let mut inner = self.0.lock().unwrap();
        inner.cut = None;
        for (sector, before) in std::mem::take(&mut inner.unflushed) {
            // Marsaglia's xorshift64, for reproducible losses.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if seed & 1 == 0 {
                inner.set(sector, before);
            }
        }
    }
}

impl Inner {
    fn set(&mut self, sector: u64, data: Option<Sector>) -> Option<Sector> {
        match data {
            Some(data) => self.sectors.insert(sector, data),
            None => self.sectors.remove(&sector),
        }
    }

    fn write(&mut self, sector: u64, data: Option<Sector>) {
        let before = self.set(sector, data);
        self.unflushed.entry(sector).or_insert(before);
    }
}

impl Target for FakeDisk {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        assert!(offset.is_multiple_of(SECTOR) && data.len().is_multiple_of(SECTOR as usize), "whole sectors");
        self.operate(|inner| {
            for (i, sector) in data.chunks(SECTOR as usize).enumerate() {
                let zeros = sector.iter().all(|byte| *byte == 0);
                inner.write(offset / SECTOR + i as u64, (!zeros).then(|| sector.into()));
            }
            data.len()
        })
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR) && bytes.is_multiple_of(SECTOR), "whole sectors");
        self.operate(|inner| {
            for sector in offset / SECTOR..(offset + bytes) / SECTOR {
                if inner.sectors.contains_key(&sector) {
                    inner.write(sector, None);
                }
            }
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(
            offset.is_multiple_of(SECTOR) && buffer.len().is_multiple_of(SECTOR as usize),
            "whole sectors"
        );
        let inner = self.0.lock().unwrap();
        for (i, piece) in buffer.chunks_mut(SECTOR as usize).enumerate() {
            match inner.sectors.get(&(offset / SECTOR + i as u64)) {
                Some(sector) => piece.copy_from_slice(sector),
                None => piece.fill(0),
            }
        }
        Ok(buffer.len())
    }

    fn flush(&self) -> io::Result<()> {
        self.operate(|inner| inner.unflushed.clear())
    }
}

struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _: Step) {}
    fn ok(&self, _: Step, _: &str) {}
    fn bytes(&self, _: Step, _: u64, _: u64) {}
    fn info(&self, _: &str) {}
}

/// A release in memory: its manifest and files.
struct Built(Release, BTreeMap<String, Vec<u8>>);

impl Source for Built {
    fn open(&self, name: &str, _: &Artifact) -> Result<Box<dyn Read + Send + '_>, Fault> {
        Ok(Box::new(self.1[name].as_slice()))
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A boot sector and a core image as GRUB's tools make them, as far as the installer looks.
fn grub_images() -> (Vec<u8>, Vec<u8>) {
    let mut boot = vec![0; 512];
    (boot[0], boot[0x66]) = (0xeb, 0xeb);
    boot[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut core = vec![7; 30_000];
    core[488..512].fill(0);
    (boot, core)
}

/// An ext4 without checksums, as far as the installer looks at it.
fn state_image() -> Vec<u8> {
    let mut image = vec![0; 256 * 1024];
    image[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    image[100_000..100_100].fill(5);
    image
}

fn built(fill: u8) -> Built {
    let (boot, core) = grub_images();
    let mut root = vec![fill; 300 * 1024];
    root.resize(512 * 1024, 0);
    let mut files: BTreeMap<String, Vec<u8>> = [
        (name::KERNEL, vec![fill; 50_000]),
        (name::INITRAMFS, vec![fill + 1; 70_000]),
        (name::GRUB_BIOS_BOOT, boot),
        (name::GRUB_BIOS_CORE, core),
        (name::GRUB_EFI, vec![fill + 2; 9_000]),
        (name::GRUB_CFG, b"# grub.cfg".to_vec()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into();
    let mut images = BTreeMap::new();
    for (name, image) in [(name::ROOT, root), (name::STATE, state_image())] {
        let mut packed = Vec::new();
        let made = pack(&mut image.as_slice(), &mut packed, 128 * 1024, 1, 1, &|_| ()).unwrap();
        images.insert(name, made);
        files.insert(name.to_owned(), packed);
    }
    let artifacts = files.iter().map(|(name, bytes)| {
        let image = images.get(name.as_str()).cloned();
        (name.clone(), Artifact { bytes: bytes.len() as u64, sha256: sha256(bytes), image })
    });
    let release = Release {
        api_version: "tatara.dev/v1alpha1".into(),
        kind: "Release".into(),
        id: format!("{fill:016x}"),
        tatara_version: "0".into(),
        build_epoch: 0,
        kernel_version: "6".into(),
        packages: BTreeMap::new(),
        versions: Default::default(),
        kernel_config: BTreeMap::new(),
        artifacts: artifacts.collect(),
    };
    Built(release, files)
}

static OLD: LazyLock<Built> = LazyLock::new(|| built(0x11));
static NEW: LazyLock<Built> = LazyLock::new(|| built(0x22));

fn record() -> InstallRecord {
    InstallRecord { node: "n1".into(), generation: 1, serial: 1, slots: BTreeMap::new() }
}

fn machine_disk() -> plan::Disk {
    plan::Disk {
        path: "/dev/fake".into(),
        bytes: DISK_MIN_BYTES,
        sector_bytes: SECTOR as u32,
        wwn: None,
        serial: None,
        model: None,
        transport: None,
        rotational: false,
        removable: false,
        read_only: false,
        boot_medium: false,
        content: Content::Empty,
    }
}

/// Everything of an install but the record and what follows it.
fn install(disk: &FakeDisk, release: &Built) -> Result<Vec<Entry>, Fault> {
    let found = machine_disk();
    let job = Job {
        disk: &found,
        slot: Slot::A,
        release: &release.0,
        node_args: vec!["quiet".into()],
        record: record(),
        state_files: Vec::new(),
    };
    let files = fetch_all(&release.0, release)?;
    whole_disk(&disk.medium(), &job, &files, release, &Quiet)
}

fn state_head(disk: &FakeDisk, partitions: &[Entry]) -> Vec<u8> {
    let mut head = vec![0; 4096];
    get(&disk.medium().span(parts::entry(partitions, &STATE).unwrap()), 0, &mut head).unwrap();
    head
}

/// What a boot finds, when only a file system with this head has a record in it.
fn found(disk: &FakeDisk, recorded: &[u8]) -> Content {
    let read = |entry: &Entry| {
        let mut head = vec![0; 4096];
        get(&disk.medium().span(entry), 0, &mut head).unwrap();
        Ok((head == recorded).then(record))
    };
    judge(&disk.medium(), &read).content
}

fn root_is(disk: &FakeDisk, partitions: &[Entry], fill: u8) -> bool {
    let mut root = vec![0; 300 * 1024];
    let entry = parts::entry(partitions, parts::root_of(Slot::A)).unwrap();
    get(&disk.medium().span(entry), 0, &mut root).unwrap();
    root.iter().all(|byte| *byte == fill)
}

/// A disk with a complete install, and the head of its state file system.
fn installed() -> (FakeDisk, Vec<Entry>, Vec<u8>) {
    let disk = FakeDisk::default();
    let partitions = install(&disk, &OLD).unwrap();
    assert!(write::boot_sector(&disk.medium()).unwrap());
    let head = state_head(&disk, &partitions);
    (disk, partitions, head)
}

/// How many operations an install takes: cuts are spread over them.
static OPERATIONS: LazyLock<usize> = LazyLock::new(|| {
    let (disk, _, _) = installed();
    let before = disk.operations();
    install(&disk, &NEW).unwrap();
    disk.operations() - before
});

#[test]
fn a_complete_install_is_found_and_a_lost_state_is_never_empty() {
    let (disk, partitions, head) = installed();
    let Content::Installed(found_install) = found(&disk, &head) else { panic!("not found") };
    assert_eq!(found_install.env.slot, Slot::A);
    assert!(root_is(&disk, &partitions, 0x11));
    assert!(!write::boot_sector(&disk.medium()).unwrap(), "it is there already");

    let damaged = |_: &Entry| Err(Fault::new(Code::StateMount, "bad superblock"));
    let content = judge(&disk.medium(), &damaged).content;
    assert_eq!(content, Content::Unreadable("bad superblock".into()));
}

/// The boot sector is written when the record is durable: with it, a record that is not there was lost, and the disk is no free one.
#[test]
fn a_complete_install_without_its_record_is_never_overwritten() {
    let (disk, partitions, _) = installed();
    let lost = found(&disk, b"no record");
    assert!(matches!(&lost, Content::Unreadable(why) if why.contains("no install record")), "{lost:?}");
    let state = parts::entry(&partitions, &STATE).unwrap();
    disk.zero_range(state.first_byte, 4096).unwrap();
    let erased = found(&disk, b"no record");
    assert!(matches!(&erased, Content::Unreadable(why) if why.contains("wipefs")), "{erased:?}");
}

/// A disk that loses what it said that it had kept leaves half a superblock. Nobody is asked about an install that was not complete.
#[test]
fn a_damaged_state_partition_is_an_interrupted_install_unless_the_install_was_complete() {
    let (disk, _, _) = installed();
    let judged_as = |code: Code, number: Errno| {
        let refused = tatara_sys::Error::new("mount", "/dev/vda5", number);
        let fault = Fault::caused(code, "the state partition cannot be mounted", refused);
        let found = std::cell::RefCell::new(Some(fault));
        judge(&disk.medium(), &|_: &Entry| Err(found.take().expect("it is read once"))).content
    };
    let judged = |number| judged_as(Code::StateMount, number);
    let complete = judged(Errno::BADMSG);
    assert!(matches!(&complete, Content::Unreadable(why) if why.contains("wipefs")), "{complete:?}");
    let mut sector = [0; 512];
    get(&disk, 0, &mut sector).unwrap();
    sector[..440].fill(0);
    put(&disk, 0, &sector).unwrap();
    for number in [Errno::BADMSG, Errno::UCLEAN, Errno::INVAL] {
        assert_eq!(judged(number), Content::Interrupted, "{number}");
    }
    let unread = judged(Errno::IO);
    assert!(matches!(unread, Content::Unreadable(_)), "a cable may have been loose: {unread:?}");
    let asked_wrongly = judged_as(Code::DiskRead, Errno::INVAL);
    assert!(
        matches!(asked_wrongly, Content::Unreadable(_)),
        "says nothing of what is there: {asked_wrongly:?}"
    );
}

#[test]
fn arguments_of_an_older_size_are_replaced_once() {
    let (disk, partitions, _) = installed();
    let entry = parts::entry(&partitions, &ESP).unwrap();
    let old = [(esp_path::node_cfg(Slot::A), esp::Content::Bytes(b"set node_args='quiet'\n"))];
    esp::write(&disk.medium(), entry, &old).unwrap();
    let args = ["quiet".to_owned()];
    assert!(bootenv::put_node_cfg(&disk.medium(), entry, Slot::A, &args).unwrap());
    assert!(!bootenv::put_node_cfg(&disk.medium(), entry, Slot::A, &args).unwrap(), "it says so already");
}

#[test]
fn an_install_cut_before_its_boot_sector_goes_on() {
    let disk = FakeDisk::default();
    install(&disk, &OLD).unwrap();
    assert_eq!(found(&disk, b"no record"), Content::Interrupted);
}

#[test]
fn a_flipped_bit_is_refused_before_it_is_written() {
    let disk = FakeDisk::default();
    let mut release = built(0x33);
    release.1.get_mut(name::ROOT).unwrap()[20] ^= 1;
    assert_eq!(install(&disk, &release).unwrap_err().code, Code::PayloadDigest);
    let fresh = FakeDisk::default();
    release.1.get_mut(name::KERNEL).unwrap()[20] ^= 1;
    assert_eq!(install(&fresh, &release).unwrap_err().code, Code::PayloadDigest);
    assert_eq!(fresh.operations(), 0, "the kernel is checked before the first write");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_install_is_interrupted_or_empty_and_goes_on(at in 0.0..1.0, seed in any::<u64>()) {
        let disk = FakeDisk::default();
        disk.cut_after((*OPERATIONS as f64 * at) as usize);
        let cut = install(&disk, &NEW).is_err();
        disk.restart(seed | 1);
        let content = found(&disk, b"no record");
        prop_assert!(matches!(content, Content::Interrupted | Content::Empty), "{content:?}");
        prop_assert!(cut || content == Content::Interrupted);
        let partitions = install(&disk, &NEW).unwrap();
        prop_assert!(root_is(&disk, &partitions, 0x22));
    }

    /// The file of a slot that boots: as it was or as it shall be, never gone.
    #[test]
    fn a_cut_while_arguments_change_leaves_the_old_or_the_new(at in 0_usize..8, seed in any::<u64>()) {
        let (disk, partitions, _) = installed();
        let esp = parts::entry(&partitions, &ESP).unwrap();
        let wanted = ["isolcpus=managed_irq,domain,2-31".to_owned()];
        let path = esp_path::node_cfg(Slot::A);
        let before = bootenv::node_cfg(esp, &["quiet".to_owned()]).unwrap();
        let after = bootenv::node_cfg(esp, &wanted).unwrap();
        disk.cut_after(at);
        let written = bootenv::put_node_cfg(&disk.medium(), esp, Slot::A, &wanted).is_ok();
        disk.restart(seed | 1);
        let found = esp::read_small(&disk.medium(), esp, &path).unwrap().expect("the file is gone");
        prop_assert!(found == before.as_bytes() || found == after.as_bytes(), "neither old nor new");
        prop_assert!(!written || found == after.as_bytes());
    }

    #[test]
    fn a_cut_reinstall_never_passes_for_complete(at in 0.0..1.0, seed in any::<u64>()) {
        let (disk, partitions, head) = installed();
        disk.cut_after((*OPERATIONS as f64 * at) as usize);
        let _ = install(&disk, &NEW);
        disk.restart(seed | 1);
        match found(&disk, &head) {
            // Nothing of it was touched yet.
            Content::Installed(_) => {
                prop_assert!(root_is(&disk, &partitions, 0x11));
                prop_assert!(!write::boot_sector(&disk.medium()).unwrap(), "it is bootable as before");
            }
            content => prop_assert!(matches!(content, Content::Interrupted | Content::Empty), "{content:?}"),
        }
        install(&disk, &NEW).unwrap();
        prop_assert_eq!(found(&disk, b"no record"), Content::Interrupted);
    }
}
