//! Addresses and routes: set for a lease, preferred for the link that serves, removed at the end.

use super::Engine;
use crate::net::dhcp::Lease;
use crate::net::netlink::{Result as Answer, Route};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;
use tatara_spec::{Code, Fault};

/// The metric of an interface's routes is this and its index: between links, the one found first is preferred until
/// another is activated. 1024 is what the kernel gives to IPv6 routes (`IP6_RT_PRIO_USER`).
const METRIC: u32 = 1024;

/// The metric of the activated link's routes.
const METRIC_ACTIVE: u32 = 64;

impl Engine {
    /// Sets the addresses and routes of a lease.
    pub(super) async fn apply(&self, index: u32, lease: &Lease) -> Answer<()> {
        // Below 1280 IPv6 ends (RFC 8200 section 5), above the card's own the kernel refuses: then it stays as it is.
        if let Some(mtu) = lease.mtu.filter(|mtu| *mtu >= 1280) {
            let _ = self.netlink.set_mtu(index, mtu).await;
        }
        let metric = METRIC + index;
        for address in &lease.addresses {
            self.netlink.add_address(index, *address, metric).await?;
        }
        for (to, gateway) in &lease.routes {
            let gateway = (!gateway.is_unspecified()).then_some(*gateway);
            let route = Route { to: *to, gateway, index, metric };
            // One that the kernel refuses costs what lies behind it, not the link.
            if let Err(error) = self.netlink.add_route(&route).await {
                self.shared.event(format!("route to {}/{} of the lease: {error}", to.0, to.1));
            }
        }
        for route in defaults(lease.gateways.iter(), index, metric) {
            self.netlink.add_route(&route).await?;
        }
        Ok(())
    }

    pub(super) async fn activate(&mut self, name: &str) -> Result<(), Fault> {
        for route in std::mem::take(&mut self.active) {
            // It is gone already when its interface lost the carrier or the address.
            let _ = self.netlink.delete_route(&route).await;
        }
        let device = self.devices.iter().find(|device| device.interface.name == name);
        let Some((link, index)) =
            device.and_then(|d| Some((d.link(&self.args, Instant::now())?, d.interface.index)))
        else {
            return Err(Fault::new(Code::NetNoLink, format!("{name} is not configured any more")));
        };
        let prefixes = link.addresses.iter().filter(|(ip, _)| ip.is_ipv4()).map(|(ip, length)| Route {
            to: (network_of(*ip, *length), *length),
            gateway: None,
            index,
            metric: METRIC_ACTIVE,
        });
        for route in prefixes.chain(defaults(link.gateways.iter(), index, METRIC_ACTIVE)) {
            self.netlink.add_route(&route).await.map_err(|e| {
                Fault::caused(
                    Code::Sys,
                    format!("the kernel refused a route to {}/{} by {name}", route.to.0, route.to.1),
                    e,
                )
            })?;
            self.active.push(route);
        }
        Ok(())
    }

    /// Removes what was set. All is tried; the first failure is returned.
    pub(super) async fn down(&mut self) -> Result<(), Fault> {
        let mut first = Ok(());
        let mut note = |name: &str, result: Answer<()>| {
            if let Err(error) = result
                && first.is_ok()
            {
                first = Err(Fault::caused(Code::Sys, format!("{name} could not be left clean"), error));
            }
        };
        for device in std::mem::take(&mut self.devices) {
            self.stop(device.interface.index);
            if device.assignment.is_some() {
                note(&device.interface.name, self.netlink.flush4(device.interface.index).await);
                // Off and on again: the kernel forgets the addresses and routes that advertisements made.
                self.sysctl6(&device.interface.name, "disable_ipv6", "1");
                self.sysctl6(&device.interface.name, "disable_ipv6", "0");
            }
        }
        let interfaces = self.netlink.interfaces().await.unwrap_or_default();
        for name in std::mem::take(&mut self.made).iter().rev() {
            if let Some(interface) = interfaces.iter().find(|interface| interface.name == *name) {
                note(name, self.netlink.delete(interface.index).await);
            }
        }
        first
    }
}

/// Default routes by these gateways.
fn defaults<'a>(
    gateways: impl Iterator<Item = &'a IpAddr>,
    index: u32,
    metric: u32,
) -> impl Iterator<Item = Route> {
    gateways.copied().zip(0..).map(move |(gateway, rank)| {
        let any: IpAddr =
            if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Route { to: (any, 0), gateway: Some(gateway), index, metric: metric + rank }
    })
}

/// The prefix that an address is in.
fn network_of(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_an_address() {
        let net = |ip: &str, length| network_of(ip.parse().unwrap(), length).to_string();
        assert_eq!(net("10.0.2.15", 24), "10.0.2.0");
        assert_eq!(net("10.0.2.15", 0), "0.0.0.0");
        assert_eq!(net("10.0.2.15", 32), "10.0.2.15");
        assert_eq!(net("fd00:1::5", 64), "fd00:1::");
    }

    #[test]
    fn gateways_keep_their_order() {
        let gateways = ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let metrics: Vec<u32> = defaults(gateways.iter(), 3, 100).map(|route| route.metric).collect();
        assert_eq!(metrics, [100, 101, 102]);
        assert!(
            defaults(gateways.iter(), 3, 100)
                .all(|route| route.to.0.is_ipv4() == route.gateway.unwrap().is_ipv4())
        );
    }
}
