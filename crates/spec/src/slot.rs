//! The two slots, and GRUB's environment block that chooses between them.

use serde::{Deserialize, Serialize};

/// One of the two root slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Partition `tatara-root-a`.
    A,
    /// Partition `tatara-root-b`.
    B,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// The GPT label of the slot's partition.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Slot::A => crate::layout::ROOT_A.label,
            Slot::B => crate::layout::ROOT_B.label,
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Slot::A => "a",
            Slot::B => "b",
        })
    }
}

impl std::str::FromStr for Slot {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "a" => Ok(Slot::A),
            "b" => Ok(Slot::B),
            other => Err(format!("slot `{other}` is neither `a` nor `b`")),
        }
    }
}

/// Boots a trial slot gets to be blessed before GRUB falls back (one to boot, two for a power cut on the way).
pub const TRIAL_BOOTS: u8 = 3;

/// Size of GRUB's environment block in bytes (GRUB, `include/grub/lib/envblk.h`).
pub const GRUBENV_BYTES: usize = 1024;

/// A slot that has yet to prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The slot on trial.
    pub slot: Slot,
    /// Boots left; at 0 GRUB boots the default slot again.
    pub boots_left: u8,
}

/// What GRUB's environment block says, as variables `slot`, `trial`, `boots_left`, `request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEnv {
    /// The slot that was blessed last, or the first one installed.
    pub slot: Slot,
    /// The slot on trial, if any.
    pub trial: Option<Trial>,
    /// Kernel arguments for the next boot only (one-shot), e.g. `tatara.refresh`; GRUB clears them when it reads them.
    pub request: Option<String>,
}
