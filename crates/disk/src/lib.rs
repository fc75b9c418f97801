//! What is written to disks, without a single ioctl: partition tables, the FAT of the EFI system
//! partition, the streaming copy of an image with its digests and its read-back, and the
//! recognition of what a disk already holds.
//!
//! Everything works over [`std::io::Read`], [`std::io::Write`] and [`std::io::Seek`] or over
//! [`stream::Target`], so that the tests run on sparse files and on targets that fail.

pub mod fat;
pub mod gpt;
pub mod probe;
pub mod stream;
pub mod window;
