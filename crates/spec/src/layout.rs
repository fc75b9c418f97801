//! The disk layout: partition numbers, labels, types and sizes.
//!
//! Type GUIDs are those of the [Discoverable Partitions Specification][dps] where it has one.
//!
//! [dps]: https://uapi-group.org/specifications/specs/discoverable_partitions_specification/

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// Partitions start on multiples of this: the erase block of common flash, and what parted and sfdisk use.
pub const ALIGNMENT_BYTES: u64 = MIB;

/// One partition that every installed disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionSpec {
    /// Number in the table, from 1.
    pub number: u32,
    /// GPT partition name; also how a disk of ours is recognised.
    pub label: &'static str,
    /// GPT partition type.
    pub type_guid: &'static str,
    /// Size in bytes; 0 takes what is left of the disk.
    pub bytes: u64,
}

/// GRUB's core image on BIOS machines (`BIOS boot partition`, GRUB manual, section "BIOS installation").
pub const BIOS: PartitionSpec = PartitionSpec {
    number: 1,
    label: "tatara-bios",
    type_guid: "21686148-6449-6E6F-744E-656564454649",
    bytes: MIB,
};
/// EFI system partition: boot loader, kernels and initramfs of both slots, grubenv.
pub const ESP: PartitionSpec = PartitionSpec {
    number: 2,
    label: "tatara-esp",
    type_guid: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    bytes: 512 * MIB,
};
/// Root slot a (x86-64 root).
pub const ROOT_A: PartitionSpec = PartitionSpec {
    number: 3,
    label: "tatara-root-a",
    type_guid: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    bytes: ROOT_SLOT_BYTES,
};
/// Root slot b (x86-64 root).
pub const ROOT_B: PartitionSpec = PartitionSpec {
    number: 4,
    label: "tatara-root-b",
    type_guid: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    bytes: ROOT_SLOT_BYTES,
};
/// The state partition, mounted as /var.
pub const STATE: PartitionSpec = PartitionSpec {
    number: 5,
    label: "tatara-state",
    type_guid: "4D21B016-B534-45C2-A9FB-5C16E091FD2D",
    bytes: 0,
};

/// A slot holds a root with container runtime, kubelet and etcd (about 1.2 GiB) with room to grow.
pub const ROOT_SLOT_BYTES: u64 = 3 * 1024 * MIB;
/// The state partition's smallest useful size: container images, logs and the record.
pub const STATE_MIN_BYTES: u64 = 1024 * MIB;
/// Both GPT copies with their alignment.
pub const TABLE_BYTES: u64 = 2 * MIB;

/// The partitions of an installed disk, in order of number and of place.
pub const PARTITIONS: [PartitionSpec; 5] = [BIOS, ESP, ROOT_A, ROOT_B, STATE];

/// The smallest disk that can be installed to, in bytes.
pub const DISK_MIN_BYTES: u64 = TABLE_BYTES + MIB + 512 * MIB + 2 * ROOT_SLOT_BYTES + STATE_MIN_BYTES;

/// The least memory of a machine that is installed, in MiB: measured with `tests/faults/memory.rs`. UEFI firmware takes more for itself.
pub const MEMORY_MIN_MIB: u64 = 192;

/// The last file of the initramfs, below its root: where it is, the kernel has unpacked all the others.
pub const UNPACKED: &str = "unpacked";

/// Paths inside the ESP, with `/` as separator and no leading one.
pub mod esp {
    use crate::slot::Slot;

    /// The fallback path every UEFI firmware boots (UEFI specification, section 3.5.1.1).
    pub const UEFI_LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
    /// GRUB's configuration.
    pub const GRUB_CFG: &str = "grub/grub.cfg";
    /// GRUB's environment block, see [`crate::slot::BootEnv`].
    pub const GRUBENV: &str = "grub/grubenv";

    /// Path of a slot's kernel.
    #[must_use]
    pub fn kernel(slot: Slot) -> String {
        format!("slot-{slot}/vmlinuz")
    }
    /// Path of a slot's initramfs.
    #[must_use]
    pub fn initramfs(slot: Slot) -> String {
        format!("slot-{slot}/initramfs.zst")
    }
    /// Path of a slot's GRUB fragment, which sets `node_args`.
    #[must_use]
    pub fn node_cfg(slot: Slot) -> String {
        format!("slot-{slot}/node.cfg")
    }
}

/// Below /etc on the node: what its CPUs are meant to be, [`crate::record::TuningRecord`] as JSON.
pub const TUNING: &str = "/etc/tatara/tuning.json";

/// Below /etc on the node: this node's part of the kubelet's configuration, as JSON.
pub const KUBELET: &str = "/etc/tatara/kubelet.json";

/// Of a root: the versions of what is for Kubernetes in it, [`crate::release::Versions`] as JSON.
pub const VERSIONS: &str = "/usr/lib/tatara/versions.json";

/// What a node's init begins with, itself and its libraries: paths below the root, one a line, in the root of a release.
pub const FIRST_READ: &str = "/usr/lib/tatara/first-read";
/// Below /etc on the node: how quiet its isolated CPUs must be, [`crate::config::Accept`] as JSON; absent when anything is taken.
pub const ACCEPT: &str = "/etc/tatara/accept.json";

/// Where CRI-O keeps images and containers, and the tools that bring it images, too (containers-storage.conf(5)).
pub mod containers {
    /// What stays, on the state partition.
    pub const ROOT: &str = "/var/lib/containers/storage";
    /// What a boot ends.
    pub const RUN: &str = "/run/containers/storage";
    /// The storage driver.
    pub const DRIVER: &str = "overlay";
}

/// Paths inside the state partition's file system (its root is /var on the node).
pub mod state {
    /// Our own directory, mode 0700.
    pub const DIR: &str = "lib/tatara";
    /// The install record, [`crate::record::InstallRecord`] as JSON.
    pub const RECORD: &str = "lib/tatara/record.json";
    /// The accepted config, as fetched, mode 0600.
    pub const CONFIG: &str = "lib/tatara/config.yaml";
    /// SSH keys fetched from the config's key URLs: JSON object from URL to list of keys.
    pub const KEYS: &str = "lib/tatara/keys.json";
    /// A newer config fetched while the node ran, taken at the next boot: [`crate::record::StagedConfig`] as JSON, mode 0600.
    pub const STAGED: &str = "lib/tatara/staged.json";
    /// The machine id, made at install.
    pub const MACHINE_ID: &str = "lib/tatara/machine-id";
    /// SSH host keys.
    pub const SSH_DIR: &str = "lib/tatara/ssh";
    /// The timeline of the install boot and of the last boots, JSON.
    pub const TIMELINE_DIR: &str = "lib/tatara/timeline";
    /// Where the accepted config came from, a URL, mode 0600: what its relative URLs are relative to.
    pub const CONFIG_URL: &str = "lib/tatara/config.url";
    /// There once the node has joined its cluster, [`crate::record::JoinStamp`] as JSON.
    pub const JOINED: &str = "lib/tatara/kubernetes/joined.json";
    /// There from before kubeadm begins to after the join is complete.
    pub const JOINING: &str = "lib/tatara/kubernetes/joining";
    /// Digests of the image archives that were imported, one empty file each.
    pub const IMAGES_DIR: &str = "lib/tatara/kubernetes/images";
    /// What the container runtime had before the import that runs; still there, the import was cut off. JSON.
    pub const IMPORTING: &str = "lib/tatara/kubernetes/importing";
    /// The policies that the kubelet's state files were written under, JSON.
    pub const KUBELET_POLICIES: &str = "lib/tatara/kubernetes/kubelet-policies.json";
    /// The last failure, [`crate::record::FailureRecord`] as JSON.
    pub const FAILURE: &str = "lib/tatara/failure.json";

    /// The image archives of the release in a slot, [`crate::release::Archives`] as JSON. It is written before the record says that the
    /// slot holds that release, and counts only for the release that it names.
    #[must_use]
    pub fn archives(slot: crate::slot::Slot) -> String {
        format!("lib/tatara/images-{slot}.json")
    }
}

/// Paths under /run, which moves from the initramfs to the node.
pub mod run {
    /// Our own directory, mode 0755: `tatara-node status` is for everybody. What is not has a mode of its own.
    pub const DIR: &str = "/run/tatara";
    /// This boot's steps so far, [`crate::record::Timeline`] as JSON.
    pub const TIMELINE: &str = "/run/tatara/timeline.json";
    /// What was decided and booted, [`crate::record::BootRecord`] as JSON, mode 0644.
    pub const BOOT: &str = "/run/tatara/boot.json";
    /// What `tatara-node pin` did last, JSON.
    pub const PIN: &str = "/run/tatara/pin.json";
    /// How far the join has come, [`crate::record::JoinRecord`] as JSON, mode 0644.
    pub const JOIN: &str = "/run/tatara/join.json";
    /// The kubelet's configuration: the cluster's with this node's part, JSON.
    pub const KUBELET: &str = "/run/tatara/kubelet.json";
    /// The CAs that the initramfs trusts, PEM; absent when it has none of its own.
    pub const CA: &str = "/run/tatara/ca.pem";
    /// The minisign public keys that configs and releases must be signed by one of, one a line; empty where none must be.
    pub const SIGNERS: &str = "/run/tatara/signers";
    /// What came of the last `tatara-node stage`, JSON, mode 0600.
    pub const STAGE: &str = "/run/tatara/stage.json";
    /// What `tatara-node tuning accept` measured last, JSON.
    pub const ACCEPT: &str = "/run/tatara/accept.json";
    /// Metrics of the node for node_exporter's textfile collector. Not in [`DIR`]: its user is not root.
    pub const METRICS: &str = "/run/tatara-metrics/pin.prom";
}
