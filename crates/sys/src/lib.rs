//! What the kernel is asked for: every unsafe block, ioctl, netlink and sysfs access of tatara.
//!
//! Functions that read /sys, /proc or /dev take the directory as an argument, so that tests give them a temporary one.
//! Everything is as the kernel says it; what it means is decided elsewhere.

pub mod block;
pub mod button;
pub mod console;
pub mod cpu;
pub mod dmi;
mod error;
pub mod ext4;
pub mod kexec;
pub mod memory;
pub mod module;
pub mod mount;
pub mod net;
pub mod power;
pub mod process;
pub mod switch_root;
mod sysfs;
pub mod time;
pub mod uevent;

pub use error::{Error, Result};
