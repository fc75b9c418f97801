//! From a node's config to its files.
//!
//! [`render`] is pure: config in, files out. [`apply`] writes them below a root, before systemd starts.
//! [`kernel`] derives the node's kernel arguments, [`topology`] reads the machine's CPUs, [`rehearsal`] says beforehand whether all that can be done.

mod apply;
pub mod cluster;
pub mod image_index;
pub mod kernel;
pub mod rehearsal;
pub mod render;
mod topology;

pub use apply::apply;
pub use render::{BaseFiles, Content, Input, Rendered, render};
pub use topology::topology;
