//! The network thread: looks at the interfaces, does what is still to be done, and waits for news.
//!
//! Every round reads the whole state from the kernel and acts on the difference, so that a lost message, a card that comes
//! late and a carrier that flaps need no code of their own.

mod compose;
mod routes;

use super::assign::{assign, is_member};
use super::device::{Device, mac_bytes, mac_text};
use super::dhcp::{self, Family, Lease, Port, Progress, Report};
use super::netlink::{Interface, Kind, Netlink, Route};
use super::shared::Shared;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tatara_spec::cmdline::NetworkArgs;
use tatara_spec::{Code, Fault};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

/// News come by netlink; this often we look without any, since its messages can be lost (netlink(7), ENOBUFS).
const TICK: Duration = Duration::from_secs(1);

/// A request to the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Prefer this interface's routes.
    Activate { name: String, reply: Sender<Result<(), Fault>> },
    /// Ask for leases as if there were none.
    AskAgain { reply: Sender<Result<(), Fault>> },
    /// Remove everything that was set, and end.
    Down { reply: Sender<Result<(), Fault>> },
}

pub(super) async fn run(
    args: NetworkArgs,
    root: PathBuf,
    shared: Arc<Shared>,
    commands: UnboundedReceiver<Command>,
) {
    let result = match Engine::new(args, root, Arc::clone(&shared)) {
        Ok((engine, news)) => engine.run(news, commands).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = result {
        shared.fail(fault);
    }
}

struct Engine {
    args: NetworkArgs,
    root: PathBuf,
    netlink: Netlink,
    shared: Arc<Shared>,
    devices: Vec<Device>,
    tasks: HashMap<(u32, Family), AbortHandle>,
    /// The thread itself keeps one end, so that the channel never closes.
    reports: (UnboundedSender<Report>, Option<UnboundedReceiver<Report>>),
    /// Routes of the activated link.
    active: Vec<Route>,
    /// Names of bonds and VLANs that we made, in order.
    made: Vec<String>,
    /// What was said last about making each of them.
    said: HashMap<String, String>,
}

impl Engine {
    fn new(
        args: NetworkArgs,
        root: PathBuf,
        shared: Arc<Shared>,
    ) -> Result<(Self, impl Stream + Unpin), Fault> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, news) = new_multicast_connection(&groups)
            .map_err(|e| Fault::caused(Code::Sys, "the kernel gave no rtnetlink socket", e))?;
        tokio::spawn(connection);
        let (sender, receiver) = unbounded_channel();
        let engine = Self {
            args,
            root,
            netlink: Netlink(handle),
            shared,
            devices: Vec::new(),
            tasks: HashMap::new(),
            reports: (sender, Some(receiver)),
            active: Vec::new(),
            made: Vec::new(),
            said: HashMap::new(),
        };
        Ok((engine, news))
    }

    async fn run(
        mut self,
        mut news: impl Stream + Unpin,
        mut commands: UnboundedReceiver<Command>,
    ) -> Result<(), Fault> {
        let Some(mut reports) = self.reports.1.take() else { return Ok(()) };
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                Some(_) = news.next() => {}
                Some(report) = reports.recv() => self.reported(report).await,
                command = commands.recv() => match command {
                    Some(Command::Activate { name, reply }) => {
                        // Who asked may be gone; nobody else wants to know.
                        let _ = reply.send(self.activate(&name).await);
                    }
                    Some(Command::AskAgain { reply }) => {
                        // The next look starts them again.
                        self.tasks.drain().for_each(|(_, task)| task.abort());
                        let _ = reply.send(Ok(()));
                    }
                    Some(Command::Down { reply }) => {
                        let _ = reply.send(self.down().await);
                        return Ok(());
                    }
                    None => return Ok(()),
                },
            }
            // One look answers all the news that have come by now.
            while news.next().now_or_never().flatten().is_some() {}
            self.look()
                .await
                .map_err(|e| Fault::caused(Code::Sys, "the interfaces could not be listed", e))?;
            self.publish();
        }
    }

    fn publish(&self) {
        let now = Instant::now();
        let links = self.devices.iter().filter_map(|device| device.link(&self.args, now)).collect();
        self.shared.publish(self.devices.clone(), links);
    }

    /// Compares the kernel's interfaces with what we know, and moves each one a step on.
    async fn look(&mut self) -> super::netlink::Result<()> {
        let interfaces = self.netlink.interfaces().await?;
        self.compose(&interfaces).await;
        self.devices.retain(|device| interfaces.iter().any(|i| i.index == device.interface.index));
        for interface in interfaces {
            if interface.kind == Kind::Card || self.made.contains(&interface.name) {
                let mut device = self.take(interface);
                if let Err((what, error)) = self.advance(&mut device).await {
                    self.trouble(&mut device, format!("{what}: {error}"));
                }
                self.devices.push(device);
            }
        }
        Ok(())
    }

    /// What we know of an interface, out of the list; it is put back after its turn.
    fn take(&mut self, interface: Interface) -> Device {
        if let Some(place) = self.devices.iter().position(|d| d.interface.index == interface.index) {
            let mut device = self.devices.remove(place);
            device.interface = interface;
            return device;
        }
        let assignment = assign(&self.args, &interface.name, &mac_text(&interface.mac));
        let driver = driver(&self.root, &interface);
        Device::new(interface, driver, assignment)
    }

    fn trouble(&self, device: &mut Device, text: String) {
        if device.trouble.as_ref() != Some(&text) {
            self.shared.event(format!("{}: {text}", device.title()));
            device.trouble = Some(text);
        }
    }

    /// Does the next things that an interface needs. An error says what was being done.
    async fn advance(&mut self, device: &mut Device) -> Result<(), (&'static str, rtnetlink::Error)> {
        let index = device.interface.index;
        let below = self.args.vlans.iter().any(|vlan| vlan.parent == device.interface.name);
        if is_member(&self.args, &device.interface.name) {
            return self.enslave(device).await.map_err(|e| ("joining its bond", e));
        }
        if device.assignment.is_none() && !below {
            return Ok(());
        }
        if !device.interface.up {
            self.prepare(device).await.map_err(|e| ("setting its MAC address or MTU", e))?;
            return self.netlink.up(index).await.map_err(|e| ("bringing it up", e));
        }
        match (device.interface.carrier, device.carrier_since) {
            (true, None) => {
                device.carrier_since = Some(Instant::now());
                self.shared.event(format!("{}: carrier", device.title()));
            }
            (false, Some(_)) => {
                self.shared.event(format!("{}: carrier lost", device.title()));
                self.stop(index);
                device.reset();
            }
            _ => {}
        }
        if device.interface.carrier && device.assignment.is_some() {
            self.configure(device).await.map_err(|e| ("configuring it", e))?;
        }
        Ok(())
    }

    /// What must be set before an interface comes up: MAC address, MTU, and whether the kernel listens to router advertisements.
    async fn prepare(&self, device: &Device) -> super::netlink::Result<()> {
        let Some(assignment) = &device.assignment else { return Ok(()) };
        let value = if assignment.autoconf { "1" } else { "0" };
        self.sysctl6(&device.interface.name, "accept_ra", value);
        self.sysctl6(&device.interface.name, "autoconf", value);
        let mac = assignment.set_mac.as_deref().and_then(mac_bytes);
        if let Some(mac) = mac.filter(|mac| *mac != device.interface.mac) {
            self.netlink.set_mac(device.interface.index, mac).await?;
        }
        match assignment.mtu {
            Some(mtu) => self.netlink.set_mtu(device.interface.index, mtu).await,
            None => Ok(()),
        }
    }

    /// Kernel `Documentation/networking/ip-sysctl.rst`, conf/interface/*.
    fn sysctl6(&self, name: &str, key: &str, value: &str) {
        let path = self.root.join("proc/sys/net/ipv6/conf").join(name).join(key);
        // Without the file the kernel has no IPv6, and there is nothing to switch.
        let _ = std::fs::write(path, value);
    }

    async fn configure(&mut self, device: &mut Device) -> super::netlink::Result<()> {
        let Some(assignment) = device.assignment.clone() else { return Ok(()) };
        let index = device.interface.index;
        if !device.fixed && !assignment.addresses.is_empty() {
            let fixed = Lease {
                addresses: assignment.addresses.clone(),
                gateways: assignment.gateways.clone(),
                ..Lease::default()
            };
            self.apply(index, &fixed).await?;
            device.fixed = true;
            self.shared.event(format!("{}: {}", device.title(), described(&fixed)));
        }
        let inet6: Vec<(IpAddr, u8)> =
            self.netlink.addresses(index).await?.into_iter().filter(|(ip, _)| ip.is_ipv6()).collect();
        let leased =
            |ip: &IpAddr| device.lease6.iter().any(|lease| lease.addresses.iter().any(|(a, _)| a == ip));
        let (local, global): (Vec<_>, Vec<_>) = inet6.into_iter().partition(|(ip, _)| is_link_local(ip));
        let autoconf: Vec<_> =
            global.into_iter().filter(|a| !leased(&a.0) && !assignment.addresses.contains(a)).collect();
        for (ip, prefix) in autoconf.iter().filter(|a| !device.autoconf.contains(a)) {
            self.shared.event(format!("{}: {ip}/{prefix} by router advertisement", device.title()));
        }
        device.autoconf = autoconf;
        self.ask(device, assignment.dhcp4.then_some(Family::V4), None);
        if assignment.dhcp6
            && let Some((IpAddr::V6(ip), _)) = local.first()
        {
            self.ask(device, Some(Family::V6), Some(*ip));
        }
        Ok(())
    }

    /// Starts to ask for a lease, unless that is going on.
    fn ask(&mut self, device: &Device, family: Option<Family>, link_local: Option<Ipv6Addr>) {
        let Some(family) = family else { return };
        let index = device.interface.index;
        let port = Port {
            index,
            name: device.interface.name.clone(),
            mac: device.interface.mac,
            link_local: link_local.unwrap_or(Ipv6Addr::UNSPECIFIED),
        };
        let reports = self.reports.0.clone();
        self.tasks.entry((index, family)).or_insert_with(|| match family {
            Family::V4 => tokio::spawn(dhcp::run4(port, reports)).abort_handle(),
            Family::V6 => tokio::spawn(dhcp::run6(port, reports)).abort_handle(),
        });
    }

    fn stop(&mut self, index: u32) {
        for family in [Family::V4, Family::V6] {
            if let Some(task) = self.tasks.remove(&(index, family)) {
                task.abort();
            }
        }
    }

    /// Takes a report of a DHCP task.
    async fn reported(&mut self, report: Report) {
        let Some(place) = self.devices.iter().position(|d| d.interface.index == report.index) else { return };
        let mut device = self.devices.remove(place);
        // A task that was stopped may have left a report behind.
        if device.carrier_since.is_some() {
            match report.progress {
                Progress::Unanswered(text) => {
                    device.trouble = None;
                    self.trouble(&mut device, text);
                }
                Progress::Bound(lease) => self.bound(&mut device, report.family, lease).await,
            }
        }
        self.devices.insert(place, device);
    }

    async fn bound(&mut self, device: &mut Device, family: Family, lease: Lease) {
        if device.lease4.as_ref().is_some_and(|old| family == Family::V4 && old.addresses != lease.addresses)
        {
            // What is left of it would be a source address that nobody answers to. Fixed addresses are set again.
            if let Err(error) = self.netlink.flush4(device.interface.index).await {
                self.trouble(device, format!("removing the address of the lease before: {error}"));
            }
            device.fixed = false;
        }
        if let Err(error) = self.apply(device.interface.index, &lease).await {
            return self.trouble(device, format!("setting the address of the lease: {error}"));
        }
        device.trouble = None;
        self.shared.event(format!("{}: {}", device.title(), described(&lease)));
        match family {
            Family::V4 => device.lease4 = Some(lease),
            Family::V6 => device.lease6 = Some(lease),
        }
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The driver of a card, by sysfs.
fn driver(root: &Path, interface: &Interface) -> String {
    let link = root.join("sys/class/net").join(&interface.name).join("device/driver");
    let driver = std::fs::read_link(link).ok();
    let name = driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "virtual".to_owned())
}

/// `10.0.2.15/24 from 10.0.2.2 for 86400 s, gateway 10.0.2.2, DNS 10.0.2.3`.
fn described(lease: &Lease) -> String {
    let joined = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let addresses: Vec<String> =
        lease.addresses.iter().map(|(ip, length)| format!("{ip}/{length}")).collect();
    let mut text = addresses.join(", ");
    match lease.server {
        Some(server) => text.push_str(&format!(" from {server} for {} s", lease.seconds)),
        None => text.push_str(" as configured"),
    }
    if !lease.gateways.is_empty() {
        text.push_str(&format!(", gateway {}", joined(&lease.gateways)));
    }
    if !lease.dns.is_empty() {
        text.push_str(&format!(", DNS {}", joined(&lease.dns)));
    }
    text
}
