//! The Debian packages of a payload, by profile and kernel flavour.

use clap::ValueEnum;
use std::collections::BTreeSet;

/// How much the root has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// A machine that boots, is on the network and answers over SSH.
    Base,
    /// What a Kubernetes node or an etcd member needs, without the Kubernetes binaries.
    Node,
}

/// What the kubelet starts containers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Runtime {
    /// Debian's.
    #[default]
    Containerd,
    /// Of a package source that the operator gives.
    #[value(name = "cri-o")]
    CriO,
}

impl Runtime {
    /// It with what it needs. CRI-O's package brings runc and crun of its own; skopeo and containers-storage bring images there that nodes
    /// have before they join.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Runtime::Containerd => &["containerd", "runc"],
            Runtime::CriO => &["containers-storage", "cri-o", "skopeo"],
        }
    }

    /// As a release names it.
    #[must_use]
    pub fn in_release(self) -> tatara_spec::release::Runtime {
        match self {
            Runtime::Containerd => tatara_spec::release::Runtime::Containerd,
            Runtime::CriO => tatara_spec::release::Runtime::CriO,
        }
    }
}

/// Debian's kernel flavours for amd64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// Every driver.
    Generic,
    /// Virtual machines only: small.
    Cloud,
    /// PREEMPT_RT.
    Rt,
}

impl Flavour {
    /// The flavour's package.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Flavour::Generic => "linux-image-amd64",
            Flavour::Cloud => "linux-image-cloud-amd64",
            Flavour::Rt => "linux-image-rt-amd64",
        }
    }
}

const BASE: &[&str] = &[
    "ca-certificates",
    "dbus",
    "init",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libnss-resolve",
    "nftables",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
    "udev",
    "util-linux",
];

/// CNI plugins, etcd, and what kubelet and kube-proxy call (kubeadm's preflight checks).
const NODE: &[&str] = &[
    "conntrack",
    "containernetworking-plugins",
    "ebtables",
    "ethtool",
    "etcd-client",
    "etcd-server",
    "ipset",
    "iptables",
    "socat",
];

/// Everything to install, in order of name.
#[must_use]
pub fn list(profile: Profile, runtime: Runtime, flavour: Flavour, extra: &[String]) -> Vec<String> {
    let (profile, runtime): (&[&str], _) = match profile {
        Profile::Base => (&[], &[][..]),
        Profile::Node => (NODE, runtime.packages()),
    };
    let names = BASE.iter().chain(profile).chain(runtime);
    let mut names: BTreeSet<String> = names.map(|&name| name.to_owned()).collect();
    names.insert(flavour.package().to_owned());
    names.extend(extra.iter().cloned());
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        let names =
            list(Profile::Node, Runtime::Containerd, Flavour::Rt, &["aptitude".into(), "runc".into()]);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        assert!(names.iter().any(|name| name == "linux-image-rt-amd64"));
        assert!(names.len() > list(Profile::Base, Runtime::Containerd, Flavour::Rt, &[]).len());
    }

    #[test]
    fn a_root_has_one_runtime_with_what_it_needs() {
        let of = |profile, runtime| list(profile, runtime, Flavour::Generic, &[]);
        let (containerd, crio) = (of(Profile::Node, Runtime::Containerd), of(Profile::Node, Runtime::CriO));
        let without = |all: &[String], others: &[String]| -> Vec<String> {
            all.iter().filter(|name| !others.contains(name)).cloned().collect()
        };
        assert_eq!(without(&containerd, &crio), ["containerd", "runc"]);
        assert_eq!(without(&crio, &containerd), ["containers-storage", "cri-o", "skopeo"]);
        assert_eq!(of(Profile::Base, Runtime::CriO), of(Profile::Base, Runtime::Containerd));
    }
}
