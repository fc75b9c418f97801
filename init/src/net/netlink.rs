//! The few rtnetlink requests that bringing up a network takes (rtnetlink(7)).

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVlan, RouteMessageBuilder};
use std::net::IpAddr;

pub(super) type Result<T> = std::result::Result<T, rtnetlink::Error>;

/// An Ethernet interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// IFF_UP.
    pub up: bool,
    /// IFF_LOWER_UP: there is a carrier.
    pub carrier: bool,
    /// It belongs to a bond or bridge.
    pub member: bool,
    pub kind: Kind,
}

/// What is behind an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A network card, or the end of a virtual cable.
    Card,
    /// Made of other interfaces: bond, VLAN.
    Composed,
    /// Nothing that leads to a network: dummy, tunnel, bridge.
    Other,
}

/// A route to a prefix, or by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub to: (IpAddr, u8),
    pub gateway: Option<IpAddr>,
    pub index: u32,
    /// The kernel takes the route with the lowest.
    pub metric: u32,
}

/// A connection to the kernel.
#[derive(Debug, Clone)]
pub(super) struct Netlink(pub Handle);

impl Netlink {
    /// All Ethernet interfaces.
    pub(super) async fn interfaces(&self) -> Result<Vec<Interface>> {
        let messages: Vec<LinkMessage> = self.0.link().get().execute().try_collect().await?;
        Ok(messages.iter().filter_map(interface).collect())
    }

    /// The addresses of an interface that can be used now: not tentative (RFC 4862), not failed; link-local ones too.
    pub(super) async fn addresses(&self, index: u32) -> Result<Vec<(IpAddr, u8)>> {
        let messages: Vec<AddressMessage> =
            self.0.address().get().set_link_index_filter(index).execute().try_collect().await?;
        Ok(messages.iter().filter(|m| m.header.index == index).filter_map(usable).collect())
    }

    pub(super) async fn up(&self, index: u32) -> Result<()> {
        self.0.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
    }

    pub(super) async fn down(&self, index: u32) -> Result<()> {
        self.0.link().set(LinkUnspec::new_with_index(index).down().build()).execute().await
    }

    pub(super) async fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        self.0.link().set(LinkUnspec::new_with_index(index).mtu(mtu).build()).execute().await
    }

    /// Gives an interface (which must be down, for most drivers) another MAC address.
    pub(super) async fn set_mac(&self, index: u32, mac: [u8; 6]) -> Result<()> {
        self.0.link().set(LinkUnspec::new_with_index(index).address(mac.to_vec()).build()).execute().await
    }

    /// Makes an interface (which must be down) a member of a bond.
    pub(super) async fn enslave(&self, index: u32, bond: u32) -> Result<()> {
        self.0.link().set(LinkUnspec::new_with_index(index).controller(bond).build()).execute().await
    }

    /// A bond with the kernel's defaults; its options are set by sysfs, where they have their names.
    pub(super) async fn add_bond(&self, name: &str) -> Result<()> {
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Bond).name(name).build();
        self.0.link().add(message).execute().await
    }

    pub(super) async fn add_vlan(&self, name: &str, parent: u32, id: u16) -> Result<()> {
        self.0.link().add(LinkVlan::new(name, parent, id).build()).execute().await
    }

    pub(super) async fn delete(&self, index: u32) -> Result<()> {
        self.0.link().del(index).execute().await
    }

    /// Adds an address, or renews it; the route to its prefix gets the metric.
    pub(super) async fn add_address(&self, index: u32, address: (IpAddr, u8), metric: u32) -> Result<()> {
        let mut request = self.0.address().add(index, address.0, address.1).replace();
        let message = request.message_mut();
        message.attributes.push(AddressAttribute::RoutePriority(metric));
        if address.0.is_ipv6() {
            // An operator's or a server's address: waiting for duplicates to be detected only costs a second.
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await
    }

    /// Removes every IPv4 address of an interface, and by that its IPv4 routes.
    pub(super) async fn flush4(&self, index: u32) -> Result<()> {
        let messages: Vec<AddressMessage> =
            self.0.address().get().set_link_index_filter(index).execute().try_collect().await?;
        for message in messages.into_iter().filter(|m| m.header.index == index) {
            if usable(&message).is_some_and(|(ip, _)| ip.is_ipv4()) {
                self.0.address().del(message).execute().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn add_route(&self, route: &Route) -> Result<()> {
        match route_message(route) {
            Some(message) => self.0.route().add(message).replace().execute().await,
            None => Ok(()),
        }
    }

    pub(super) async fn delete_route(&self, route: &Route) -> Result<()> {
        match route_message(route) {
            Some(message) => self.0.route().del(message).execute().await,
            None => Ok(()),
        }
    }
}

/// `None` when the families of a route's ends differ.
fn route_message(route: &Route) -> Option<rtnetlink::packet_route::route::RouteMessage> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.0, route.to.1)
        .ok()?
        .output_interface(route.index)
        .priority(route.metric);
    builder = match route.gateway {
        // Some providers put the gateway outside of the prefix.
        Some(gateway) => builder.gateway(gateway).ok()?.onlink(),
        None if route.to.0.is_ipv4() => builder.scope(RouteScope::Link),
        None => builder,
    };
    Some(builder.build())
}

fn interface(message: &LinkMessage) -> Option<Interface> {
    let flags = message.header.flags;
    if message.header.link_layer_type != LinkLayerType::Ether || flags.contains(LinkFlags::Loopback) {
        return None;
    }
    let mut found = Interface {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        member: false,
        kind: Kind::Card,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) => found.mac = mac.as_slice().try_into().ok()?,
            LinkAttribute::Controller(_) => found.member = true,
            LinkAttribute::LinkInfo(infos) => found.kind = kind(infos),
            _ => {}
        }
    }
    Some(found)
}

fn kind(infos: &[LinkInfo]) -> Kind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None | Some(InfoKind::Veth) => Kind::Card,
        Some(InfoKind::Bond | InfoKind::Vlan) => Kind::Composed,
        Some(_) => Kind::Other,
    }
}

fn usable(message: &AddressMessage) -> Option<(IpAddr, u8)> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // IPv4 has both, and they differ on point-to-point links: the local one is ours.
            AddressAttribute::Local(ip) => address = Some(*ip),
            AddressAttribute::Address(ip) => address = address.or(Some(*ip)),
            AddressAttribute::Flags(flags)
                if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) =>
            {
                return None;
            }
            _ => {}
        }
    }
    (message.header.scope != AddressScope::Host).then_some((address?, message.header.prefix_len))
}
