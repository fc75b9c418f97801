//! Finding disks, writing a release to one, and booting what is on one.
//!
//! Whole-disk reads and writes go through one node of the disk and past the page cache ([`Disk`]); the same code writes plain files,
//! which is how USB images are made ([`usb`]) and how the tests cut the power. The kernel mounts only root and state.

mod artifact;
pub mod boot;
pub mod bootenv;
mod cached;
mod check;
mod content;
mod device;
mod esp;
mod ext4;
mod fault;
mod files;
mod grub;
mod image;
pub mod install;
mod parts;
#[cfg(test)]
mod power_cut;
pub mod scan;
mod span;
pub mod state;
pub mod usb;
mod write;

pub use artifact::{Directory, Handover, Progress, Source};
pub use device::Disk;
pub use files::StateFile;
pub use install::{Completed, Job};
pub use span::Medium;
pub use state::StateMount;
pub use tatara_sys::block::Access;
