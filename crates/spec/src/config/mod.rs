//! The node's config, `apiVersion: tatara.dev/v1alpha1`, `kind: NodeConfig`.
//!
//! Strict: an unknown key is an error, every value is validated, and what passes cannot be wrong later.

mod v1alpha1;

pub use v1alpha1::{
    Bond, Confirm, DiskSelector, DiskTransport, FileEntry, Handover, Housekeeping, Install, Interface, InterfaceMatch,
    Isolation, Metadata, Network, NodeConfig, ReleaseRef, Report, Route, Time, Tuning, User, Vlan, Wipe,
};
