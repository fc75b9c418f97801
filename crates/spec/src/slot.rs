//! The two slots, and GRUB's environment block that chooses between them.

mod block;
mod grub;

pub use block::EnvError;
pub use grub::{
    GRUB_BIOS_MODULES, GRUB_CFG, GRUB_MODULES, GRUB_UEFI_MODULES, GRUB_USB_CFG, NODE_CFG_BYTES, node_cfg,
};

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
/// grub.cfg counts down from it in words, so it cannot be raised here alone; a test holds the two together.
pub const TRIAL_BOOTS: u8 = 3;

/// Size of GRUB's environment block in bytes (GRUB, `include/grub/lib/envblk.h`).
pub const GRUBENV_BYTES: usize = 1024;

/// A slot that has yet to prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

impl BootEnv {
    /// The environment of a disk just installed: the slot is on trial, and also the one to fall back to, as there is no other.
    #[must_use]
    pub fn after_install(slot: Slot) -> Self {
        Self { slot, trial: Some(Trial { slot, boots_left: TRIAL_BOOTS }), request: None }
    }

    /// With a slot just upgraded on trial. The blessed slot stays the one to fall back to; a trial before it is forgotten.
    #[must_use]
    pub fn on_trial(&self, slot: Slot) -> Self {
        Self { trial: Some(Trial { slot, boots_left: TRIAL_BOOTS }), ..self.clone() }
    }

    /// While a slot is being written: the other one boots, and nothing is on trial. The other one also becomes the way back: when the
    /// slot that was blessed last is written, that is because it could not be loaded.
    #[must_use]
    pub fn while_writing(&self, slot: Slot) -> Self {
        Self { slot: slot.other(), trial: None, request: self.request.clone() }
    }

    /// The slot that GRUB boots next: the one on trial while it has boots left.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.trial.filter(|trial| trial.boots_left > 0).map_or(self.slot, |trial| trial.slot)
    }

    /// What a boot does to the environment before it boots [`Self::chosen`]: the trial has one boot less, the request is
    /// taken. GRUB does this itself; a boot from network or USB that goes on into the disk must do it in GRUB's place, or a
    /// machine whose firmware prefers the network would try a bad slot for ever.
    #[must_use]
    pub fn booted(&self) -> Self {
        let count = |trial: Trial| Trial { boots_left: trial.boots_left.saturating_sub(1), ..trial };
        Self { slot: self.slot, trial: self.trial.map(count), request: None }
    }

    /// After `running` was found healthy. A trial that ended without a blessing stays on record, so that the same release
    /// is not tried again at once; so does a trial that is still to come.
    #[must_use]
    pub fn blessed(&self, running: Slot) -> Self {
        match self.trial {
            Some(trial) if trial.slot == running => Self { slot: running, trial: None, ..self.clone() },
            _ => self.clone(),
        }
    }

    /// The slot whose trial ended without a blessing, so that the node went back to the other one.
    #[must_use]
    pub fn fallen_back(&self) -> Option<Slot> {
        self.trial.filter(|trial| trial.boots_left == 0 && trial.slot != self.slot).map(|trial| trial.slot)
    }
}

#[cfg(test)]
mod tests;
