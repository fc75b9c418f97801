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

/// Container runtime and CNI plugins, etcd, and what kubelet and kube-proxy call (kubeadm's preflight checks).
const NODE: &[&str] = &[
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "ebtables",
    "ethtool",
    "etcd-client",
    "etcd-server",
    "ipset",
    "iptables",
    "runc",
    "socat",
];

/// Everything to install, in order of name.
#[must_use]
pub fn list(profile: Profile, flavour: Flavour, extra: &[String]) -> Vec<String> {
    let profile = match profile {
        Profile::Base => &[],
        Profile::Node => NODE,
    };
    let mut names: BTreeSet<String> = BASE.iter().chain(profile).map(|&name| name.to_owned()).collect();
    names.insert(flavour.package().to_owned());
    names.extend(extra.iter().cloned());
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        let names = list(Profile::Node, Flavour::Rt, &["aptitude".into(), "runc".into()]);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        assert!(names.iter().any(|name| name == "linux-image-rt-amd64"));
        assert!(names.len() > list(Profile::Base, Flavour::Rt, &[]).len());
    }
}
