//! The container runtime of a release: what its root has, no key of a config.

use super::Versions;
use crate::error::{Code, Fault};
use std::fmt;

/// A container runtime that the kubelet speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Debian's containerd.
    Containerd,
    /// CRI-O, of a package source that is not Debian's.
    CriO,
}

impl Runtime {
    /// The systemd unit that its package brings.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Containerd => "containerd.service",
            Self::CriO => "crio.service",
        }
    }

    /// The socket that it listens at by default (Kubernetes documentation, "Installing kubeadm", table of endpoints).
    #[must_use]
    pub fn socket(self) -> &'static str {
        match self {
            Self::Containerd => "/run/containerd/containerd.sock",
            Self::CriO => "/var/run/crio/crio.sock",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containerd => "containerd",
            Self::CriO => "CRI-O",
        })
    }
}

impl Versions {
    /// The runtime of the root, with its version; `None` when it has none.
    ///
    /// # Errors
    /// [`Code::KubernetesPayload`] when it has two: nothing would say which of them the kubelet is to speak to.
    pub fn runtime(&self) -> Result<Option<(Runtime, &str)>, Fault> {
        match (self.containerd.as_deref(), self.crio.as_deref()) {
            (Some(version), None) => Ok(Some((Runtime::Containerd, version))),
            (None, Some(version)) => Ok(Some((Runtime::CriO, version))),
            (None, None) => Ok(None),
            (Some(one), Some(other)) => {
                let why =
                    format!("the release has two container runtimes, containerd {one} and CRI-O {other}");
                Err(Fault::new(Code::KubernetesPayload, why))
            }
        }
    }
}
