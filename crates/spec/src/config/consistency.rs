//! Contradictions between values that are right by themselves.

mod kubernetes;

use super::diagnostic::{Problem, did_you_mean, quote};
use super::tree::Node;
use super::{Interface, Isolation, NodeConfig, Tuning};
use crate::size;
use std::collections::HashMap;
use std::net::IpAddr;

/// Pushes a problem for every contradiction.
pub(super) fn check(config: &NodeConfig, root: &Node, problems: &mut Vec<Problem>) {
    let mut checker = Checker { root, problems };
    checker.disk(config);
    checker.duplicates(config);
    checker.user_ids(config);
    checker.tuning(config);
    checker.kubernetes(config);
    checker.firewall(config);
    let names: Vec<&str> =
        config.network.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    for (index, interface) in config.network.interfaces.iter().enumerate() {
        checker.interface(&names, interface, &format!("network.interfaces.{index}"));
    }
}

struct Checker<'n, 'p> {
    root: &'n Node,
    problems: &'p mut Vec<Problem>,
}

impl Checker<'_, '_> {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::invalid(self.root.position(path), message));
    }

    fn disk(&mut self, config: &NodeConfig) {
        let bytes = |size: &Option<String>| size.as_deref().and_then(|text| size::parse(text).ok());
        let disk = &config.install.disk;
        if let (Some(least), Some(most)) = (bytes(&disk.min_size), bytes(&disk.max_size))
            && least > most
        {
            self.problem(
                "install.disk.maxSize",
                format!("`install.disk.maxSize` is {most} bytes, less than `minSize`, {least} bytes; no disk can match"),
            );
        }
    }

    fn duplicates(&mut self, config: &NodeConfig) {
        let names = |index: usize| format!("users.{index}.name");
        self.unique("user", config.users.iter().map(|user| user.name.as_str()), names);
        let names = |index: usize| format!("network.interfaces.{index}.name");
        self.unique(
            "interface",
            config.network.interfaces.iter().map(|interface| interface.name.as_str()),
            names,
        );
        let paths = |index: usize| format!("files.{index}.path");
        self.unique("file", config.files.iter().map(|file| file.path.as_str()), paths);
        let modules = |index: usize| format!("tuning.modules.{index}");
        self.unique("module", config.tuning.modules.iter().map(String::as_str), modules);
        let arguments = |index: usize| format!("tuning.kernelArguments.{index}");
        self.unique("kernel argument", config.tuning.kernel_arguments.iter().map(String::as_str), arguments);
        for (index, user) in config.users.iter().enumerate() {
            self.unique("key", user.keys.iter().map(String::as_str), |key| {
                format!("users.{index}.keys.{key}")
            });
        }
    }

    /// Two users with the same number would own each other's files.
    fn user_ids(&mut self, config: &NodeConfig) {
        let place = |index: usize| match config.users[index].uid {
            Some(_) => format!("users.{index}.uid"),
            None => format!("users.{index}.name"),
        };
        let mut first: HashMap<u32, usize> = HashMap::new();
        for (index, user) in config.users.iter().enumerate() {
            let before = *first.entry(user.id()).or_insert(index);
            let other = &config.users[before];
            // The same name twice is said already.
            if before == index || other.name == user.name {
                continue;
            }
            let (line, number) = (self.root.position(&place(before)).line, user.id());
            let message = format!(
                "user {} has the number {number}, which user {} on line {line} has too; expected a `uid` of its own",
                quote(&user.name),
                quote(&other.name)
            );
            self.problem(&place(index), message);
        }
    }

    /// Reports the second and each further use of a name.
    fn unique<'v>(
        &mut self,
        what: &str,
        values: impl Iterator<Item = &'v str>,
        path: impl Fn(usize) -> String,
    ) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (index, value) in values.enumerate() {
            match first.get(value) {
                Some(before) => {
                    let line = self.root.position(&path(*before)).line;
                    self.problem(&path(index), format!("{what} {} is already on line {line}", quote(value)));
                }
                None => {
                    first.insert(value, index);
                }
            }
        }
    }

    fn tuning(&mut self, config: &NodeConfig) {
        let tuning = &config.tuning;
        if let Some(housekeeping) = &tuning.housekeeping {
            match (&housekeeping.cores_per_numa_node, &housekeeping.cpus) {
                (Some(_), Some(_)) => self.problem(
                    "tuning.housekeeping",
                    "`tuning.housekeeping` has both `coresPerNumaNode` and `cpus`; expected one of them",
                ),
                (None, None) => self.problem(
                    "tuning.housekeeping",
                    "`tuning.housekeeping` is without content; expected `coresPerNumaNode` or `cpus`",
                ),
                _ => {}
            }
        } else if tuning.isolation != Isolation::None && tuning.isolated_cpus.is_none() {
            self.problem(
                "tuning.isolation",
                "`tuning.isolation` is set without `tuning.housekeeping`; expected the CPUs that are not isolated",
            );
        }
        self.accept(tuning);
        let sizes = tuning.hugepages.iter().map(|pages| pages.size.argument());
        self.unique("page size", sizes, |index| format!("tuning.hugepages.{index}.size"));
        let hugepages =
            |argument: &&String| argument.starts_with("hugepages=") || argument.starts_with("hugepagesz=");
        if let Some(argument) =
            tuning.kernel_arguments.iter().find(hugepages).filter(|_| !tuning.hugepages.is_empty())
        {
            let message = format!(
                "`tuning.hugepages` and the kernel argument {}; expected one of them",
                quote(argument)
            );
            self.problem("tuning.hugepages", message);
        }
    }

    fn accept(&mut self, tuning: &Tuning) {
        let Some(accept) = &tuning.accept else { return };
        if !accept.limits_something() {
            let message = "`tuning.accept` limits nothing; expected at least one of `maxTicksPerSecond`, `maxIpisPerSecond`, \
                           `maxDeviceInterrupts` and `maxGapUs`";
            self.problem("tuning.accept", message);
        }
        if tuning.isolation == Isolation::None {
            let message = "`tuning.accept` is set while `tuning.isolation` is `none`; expected isolated CPUs to measure";
            self.problem("tuning.accept", message);
        }
    }

    fn interface(&mut self, names: &[&str], interface: &Interface, path: &str) {
        if interface.vlan.is_some() && interface.bond.is_some() {
            self.problem(
                path,
                format!(
                    "interface {} is both a VLAN and a bond; expected one of them",
                    quote(&interface.name)
                ),
            );
        }
        let made = interface.vlan.is_some() || interface.bond.is_some();
        if made && interface.matches != super::InterfaceMatch::default() {
            self.problem(
                &format!("{path}.match"),
                format!("interface {} is made here, so `match` has no meaning; expected it at the interface below", quote(&interface.name)),
            );
        }
        if let Some(vlan) = &interface.vlan {
            self.below(interface, &vlan.parent, names, &format!("{path}.vlan.parent"));
        }
        for (index, member) in interface.bond.iter().flat_map(|bond| &bond.members).enumerate() {
            self.below(interface, member, names, &format!("{path}.bond.members.{index}"));
        }
        for (index, gateway) in interface.gateways.iter().enumerate() {
            self.gateway(interface, *gateway, &format!("{path}.gateways.{index}"));
        }
    }

    /// An interface that another one is made of: it must be in the list, and be another one.
    fn below(&mut self, interface: &Interface, name: &str, names: &[&str], path: &str) {
        if name == interface.name {
            self.problem(path, format!("interface {} is below itself; expected another one", quote(name)));
        } else if !names.contains(&name) {
            let hint = did_you_mean(name, names.iter().copied());
            self.problem(
                path,
                format!("no interface is named {}; expected one of `network.interfaces`{hint}", quote(name)),
            );
        }
    }

    /// A router can only be reached where the interface has addresses of its family.
    fn gateway(&mut self, interface: &Interface, gateway: IpAddr, path: &str) {
        let automatic = if gateway.is_ipv4() { interface.dhcp4 } else { interface.ipv6 };
        let family = |address: &String| address.contains(':') == gateway.is_ipv6();
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !automatic && !link_local && !interface.addresses.iter().any(family) {
            self.problem(
                path,
                format!(
                    "router `{gateway}` without an address of its family on interface {}; expected one in `addresses`",
                    quote(&interface.name)
                ),
            );
        }
    }
}
