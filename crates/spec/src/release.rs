//! The release manifest, `release.json`: what one `tatara image build` made.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of the artifacts in a release; they are file names beside `release.json`.
pub mod artifact {
    /// The kernel, bzImage.
    pub const KERNEL: &str = "vmlinuz";
    /// The initramfs, one zstd frame of a newc cpio.
    pub const INITRAMFS: &str = "initramfs.zst";
    /// The root file system, erofs, as independent zstd frames.
    pub const ROOT: &str = "root.erofs.zst";
    /// An empty ext4, grown in place on the node.
    pub const STATE: &str = "state.ext4.zst";
    /// GRUB's boot sector for BIOS machines (`boot.img`, 512 bytes).
    pub const GRUB_BIOS_BOOT: &str = "grub-bios-boot.img";
    /// GRUB's core image for BIOS machines.
    pub const GRUB_BIOS_CORE: &str = "grub-bios-core.img";
    /// GRUB for UEFI machines.
    pub const GRUB_EFI: &str = "grub-x64.efi";
    /// The grub.cfg of an installed disk.
    pub const GRUB_CFG: &str = "grub.cfg";
}

/// The manifest. Unknown keys are ignored: a newer builder may say more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// `tatara.dev/v1alpha1`.
    pub api_version: String,
    /// `Release`.
    pub kind: String,
    /// Identity: the first 16 hex digits of the SHA-256 over the artifacts' names and digests, in order of name.
    pub id: String,
    /// Version of tatara that built it.
    pub tatara_version: String,
    /// Seconds since 1970 that every file in it is dated with (SOURCE_DATE_EPOCH).
    pub build_epoch: u64,
    /// `uname -r` of the kernel.
    pub kernel_version: String,
    /// Debian packages in the root and their versions.
    pub packages: BTreeMap<String, String>,
    /// The kernel's options against kernel-config/requirements: option to value found.
    pub kernel_config: BTreeMap<String, String>,
    /// The files, by name.
    pub artifacts: BTreeMap<String, Artifact>,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: Digest,
    /// For a compressed disk image: what it unpacks to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}

/// A disk image as independent zstd frames, in order. Every frame unpacks to `frame_bytes`, the last one to what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Size of the image in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole image.
    pub sha256: Digest,
    /// Bytes that a frame unpacks to: a multiple of 4096.
    pub frame_bytes: u64,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// One zstd frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Compressed size in bytes.
    pub bytes: u64,
    /// SHA-256 of the compressed frame: checked before it is decoded.
    pub packed: Digest,
    /// SHA-256 of what it unpacks to: compared with what is read back from the disk.
    pub raw: Digest,
}

/// A SHA-256 digest; 64 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl std::str::FromStr for Digest {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a SHA-256 digest of 64 hex digits");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
