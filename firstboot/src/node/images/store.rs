//! Where the release's container runtime keeps images.

use super::containerd::Containerd;
use super::crio::CriO;
use crate::node::Node;
use crate::node::system::System;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use tatara_spec::Fault;
use tatara_spec::release::Runtime;

/// A name and the content that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) digest: String,
}

/// What a store keeps: images, and what no image has named yet. That is held by a lease in containerd, and is a layer in CRI-O's storage.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) images: BTreeSet<Image>,
    #[serde(default)]
    pub(super) leases: BTreeSet<String>,
    #[serde(default)]
    pub(super) layers: BTreeSet<String>,
}

pub(super) enum Store<'a> {
    Containerd(Containerd<'a>),
    CriO(CriO<'a>),
}

impl<'a> Store<'a> {
    pub(super) fn of(node: &'a Node, system: &'a System) -> Result<Self, Fault> {
        Ok(match node.runtime()? {
            Runtime::Containerd => Self::Containerd(Containerd(system)),
            Runtime::CriO => Self::CriO(CriO { node, system }),
        })
    }

    /// The names of all images.
    pub(super) fn names(&self) -> Result<BTreeSet<String>, Fault> {
        let images = match self {
            Self::Containerd(store) => store.images(),
            Self::CriO(store) => store.images(),
        }?;
        Ok(images.into_iter().map(|image| image.name).collect())
    }

    pub(super) fn kept(&self) -> Result<Kept, Fault> {
        match self {
            Self::Containerd(store) => store.kept(),
            Self::CriO(store) => store.kept(),
        }
    }

    /// The names of what was in the archive.
    pub(super) fn import(&self, what: &str, archive: &Path) -> Result<Vec<String>, Fault> {
        match self {
            Self::Containerd(store) => store.import(what, archive),
            Self::CriO(store) => store.import(what, archive),
        }
    }

    /// Keeps the images of all archives from the kubelet's garbage collection. With containerd each import has done that, for good.
    pub(super) fn pin(&self, names: &BTreeSet<String>) -> Result<(), Fault> {
        match self {
            Self::Containerd(_) => Ok(()),
            Self::CriO(store) => store.pin(names),
        }
    }

    /// Takes away what came since then, and what was unpacked for it alone.
    pub(super) fn back_to(&self, before: &Kept) -> Result<(), Fault> {
        match self {
            Self::Containerd(store) => store.back_to(before),
            Self::CriO(store) => store.back_to(before),
        }
    }
}
