//! The release manifest, `release.json`: what one `tatara image build` made.

mod archives;
mod check;
mod digest;
mod runtime;

pub use archives::{Archive, Archives, archive_file, is_archive_name};
pub use digest::Digest;
pub use runtime::Runtime;

use crate::error::{Code, Fault};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// `apiVersion` of the manifests that this version reads and writes.
pub const API_VERSION: &str = "tatara.dev/v1alpha1";

/// `kind` of a manifest.
pub const KIND: &str = "Release";

/// Largest manifest that is read, in bytes. A root of 3 GiB in frames of 4 MiB has 768 of them, about 200 bytes each.
pub const MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The last second that RFC 3339 can write: 9999-12-31T23:59:59Z.
const LAST_EPOCH: u64 = 253_402_300_799;

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

/// The manifest. Unknown keys are ignored: a newer builder may say more. The default describes nothing, and no parser takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// `tatara.dev/v1alpha1`.
    pub api_version: String,
    /// `Release`.
    pub kind: String,
    /// Identity, see [`Release::compute_id`].
    pub id: String,
    /// Version of tatara that built it.
    pub tatara_version: String,
    /// Seconds since 1970 that every file in it is dated with (SOURCE_DATE_EPOCH).
    pub build_epoch: u64,
    /// `uname -r` of the kernel.
    pub kernel_version: String,
    /// Debian packages in the root and their versions.
    pub packages: BTreeMap<String, String>,
    /// What of these the node's config is rendered for, as in [`crate::layout::VERSIONS`] of the root.
    #[serde(default)]
    pub versions: Versions,
    /// The kernel's options against kernel-config/requirements: option to value found.
    pub kernel_config: BTreeMap<String, String>,
    /// The files, by name.
    pub artifacts: BTreeMap<String, Artifact>,
}

/// Upstream's versions of what a node's config is rendered for; `/usr/lib/tatara/versions.json` in the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of kubeadm, kubelet and kubectl; none when they are not in the root.
    pub kubernetes: Option<String>,
    /// Of containerd.
    pub containerd: Option<String>,
    /// Of runc.
    pub runc: Option<String>,
    /// Of CRI-O, which takes containerd's place. Releases from before there was a choice do not have the key.
    #[serde(default)]
    pub crio: Option<String>,
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

/// One zstd frame. An install hashes every byte of it twice, so the digest is one that takes less time than writing does (ADR 11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// Compressed size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the compressed frame: checked before it is decoded.
    pub packed_blake3: Digest,
    /// BLAKE3 of what it unpacks to: compared with what is read back from the disk.
    pub raw_blake3: Digest,
}

impl Release {
    /// Refuses a release that is dated before the moment that the config names, if it names one.
    ///
    /// # Errors
    /// [`Code::ReleaseOld`] with both moments; [`Code::ConfigInvalid`] for a text that is no moment.
    pub fn check_age(&self, not_before: Option<&str>) -> Result<(), Fault> {
        let Some(text) = not_before else { return Ok(()) };
        let allowed = humantime::parse_rfc3339(text)
            .map_err(|error| Fault::caused(Code::ConfigInvalid, "install.release.notBefore", error))?;
        let built = self.built();
        if *built.get_ref() >= allowed {
            return Ok(());
        }
        let message = format!("release {} is dated {built}; install.release.notBefore is {text}", self.id);
        Err(Fault::new(Code::ReleaseOld, message))
    }

    /// The date of every file in it, RFC 3339 when shown.
    #[must_use]
    pub fn built(&self) -> humantime::Rfc3339Timestamp {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(self.build_epoch.min(LAST_EPOCH)))
    }

    /// Parses and checks a manifest: after this its sizes and names can be relied on. The signature is checked before, on
    /// the bytes.
    ///
    /// # Errors
    /// [`Code::ReleaseBad`], with what was found and expected.
    pub fn parse(json: &[u8]) -> Result<Self, Fault> {
        let bad = |why: String| Fault::new(Code::ReleaseBad, format!("release.json: {why}"));
        if json.len() > MANIFEST_MAX_BYTES {
            return Err(bad(format!("{} bytes; at most {MANIFEST_MAX_BYTES} are read", json.len())));
        }
        // The version first: another version's manifest may differ in everything else.
        let version: Version = serde_json::from_slice(json).map_err(|error| {
            Fault::caused(Code::ReleaseBad, "release.json is not a release manifest", error)
        })?;
        if (version.api_version.as_str(), version.kind.as_str()) != (API_VERSION, KIND) {
            let (found, kind) = (version.api_version, version.kind);
            return Err(bad(format!(
                "apiVersion `{found}`, kind `{kind}`; expected `{API_VERSION}`, `{KIND}`"
            )));
        }
        let release: Self = serde_json::from_slice(json).map_err(|error| {
            Fault::caused(Code::ReleaseBad, "release.json is not a usable manifest", error)
        })?;
        release.check().map_err(bad)?;
        Ok(release)
    }

    /// The manifest as it is published: JSON, keys in a fixed order, a newline at its end.
    ///
    /// # Errors
    /// [`Code::ReleaseBad`] when [`Self::parse`] would refuse it.
    pub fn to_json(&self) -> Result<String, Fault> {
        self.check().map_err(|why| Fault::new(Code::ReleaseBad, format!("release.json: {why}")))?;
        let text = serde_json::to_string_pretty(self).map_err(|error| {
            Fault::caused(Code::ReleaseBad, "release.json could not be written as JSON", error)
        })?;
        Ok(text + "\n")
    }

    /// What `id` must be: the first 16 hex digits of the SHA-256 over one line `DIGEST  NAME` an artifact, in byte order of
    /// name. So `LC_ALL=C sort -k2` of the artifacts' `sha256sum` output, piped into `sha256sum`, shows the same.
    #[must_use]
    pub fn compute_id(&self) -> String {
        let mut hash = Sha256::new();
        for (name, artifact) in &self.artifacts {
            hash.update(format!("{}  {name}\n", artifact.sha256));
        }
        let mut id = Digest(hash.finalize().into()).to_string();
        id.truncate(16);
        id
    }
}

/// What every version of a manifest has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    api_version: String,
    kind: String,
}

#[cfg(test)]
mod tests;
