//! The `tatara` command line as a library, so that tests and benchmarks drive the same code.

pub mod build;
pub mod config_cmd;
pub mod drain;
pub mod serve;
mod signals;
pub mod vm;
pub mod write;
