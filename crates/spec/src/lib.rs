//! What tatara is about, without I/O: the config types, `plan()`, the command line grammar, the
//! partition layout, slots, CPU lists, step names and error codes.

pub mod cmdline;
pub mod config;
pub mod cpu;
pub mod error;
pub mod layout;
pub mod plan;
pub mod record;
pub mod release;
pub mod shown;
pub mod size;
pub mod slot;
pub mod step;

pub use error::{Code, Fault};
