//! The network of the installer: every Ethernet link at once, and the first that serves wins.
//!
//! A thread with its own runtime brings links up, asks for leases and renews them; [`Network`] looks at what it has got.
//! A link without a carrier or without a DHCP server delays no other: [`Network::bring_up`] returns with the first
//! configured link, and the others may follow.

mod assign;
mod device;
pub mod dhcp;
mod engine;
mod netlink;
mod shared;

use engine::Command;
use shared::Shared;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tatara_spec::cmdline::NetworkArgs;
use tatara_spec::{Code, Fault};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How long [`Network::bring_up`] waits for the first configured link. Ports of an LACP group need about 70 s until they
/// forward (<https://github.com/coreos/bugs/issues/1973>); with 20 s more, one whole DHCP round still fits.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How long the interfaces that `ip=` names may take to appear: drivers with firmware need some seconds.
pub const DEVICE_DEADLINE: Duration = Duration::from_secs(20);

/// How often the wait says what it waits for.
const ROUND: Duration = Duration::from_secs(10);

/// A configured link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface name.
    pub name: String,
    /// MAC address, lower-case with colons.
    pub mac: String,
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways, by preference. IPv6's come by router advertisement to the kernel and are not listed.
    pub gateways: Vec<IpAddr>,
    /// DNS servers: those of the command line, then those of the lease.
    pub dns: Vec<IpAddr>,
    /// NTP servers of the lease: addresses or names.
    pub ntp: Vec<String>,
    /// Host name of `ip=` or the lease (DHCP option 12).
    pub hostname: Option<String>,
    /// Domain of the lease (DHCP option 15).
    pub domain: Option<String>,
}

/// `eth0 (52:54:00:12:34:56) 10.0.2.15/24`.
impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.mac)?;
        self.addresses.iter().try_for_each(|(ip, length)| write!(f, " {ip}/{length}"))
    }
}

/// The network while it is up. Dropping it ends renewals and leaves the links as they are.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    /// `None` only while being dropped.
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Brings every link up and waits until one is configured. `on_event` gets one line of text for everything that happens.
    ///
    /// On failure links stay up, so that calling again goes on where the switch ports are by then.
    ///
    /// # Errors
    /// [`Code::NetNoDevice`], [`Code::NetNoLink`] or [`Code::NetDhcp`] after [`DEADLINE`], with name, driver, MAC address
    /// and what happened for each interface; [`Code::Sys`] when the kernel refuses a request on which all depends.
    pub fn bring_up(args: &NetworkArgs, on_event: &dyn Fn(&str)) -> Result<Self, Fault> {
        let network = Self::start(args, PathBuf::from("/"))?;
        network.wait_first(args, DEADLINE, on_event)?;
        Ok(network)
    }

    /// Starts the thread. `root` is where /proc and /sys are.
    fn start(args: &NetworkArgs, root: PathBuf) -> Result<Self, Fault> {
        let shared = Arc::new(Shared::default());
        let (commands, received) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Fault::caused(Code::Sys, "the network runtime could not be started", e))?;
        let (args, of_thread) = (args.clone(), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(move || runtime.block_on(engine::run(args, root, of_thread, received)))
            .map_err(|e| Fault::caused(Code::Sys, "the network thread could not be started", e))?;
        Ok(Self { shared, commands: Some(commands), thread: Some(thread) })
    }

    fn wait_first(
        &self,
        args: &NetworkArgs,
        deadline: Duration,
        on_event: &dyn Fn(&str),
    ) -> Result<(), Fault> {
        let started = Instant::now();
        loop {
            let configured = self.shared.wait(ROUND.min(deadline), |state| !state.links.is_empty());
            self.events().iter().for_each(|event| on_event(event));
            if configured {
                return Ok(());
            }
            if let Some(fault) = self.shared.take_fatal() {
                return Err(fault);
            }
            let fault = device::why_not(args, &self.shared.devices());
            let limit =
                if fault.code == Code::NetNoDevice { deadline.min(DEVICE_DEADLINE) } else { deadline };
            if started.elapsed() >= limit {
                return Err(fault);
            }
            on_event(&format!(
                "waiting for the network since {} s: {}",
                started.elapsed().as_secs(),
                fault.chain()
            ));
        }
    }

    /// The links that are configured now, the first that became so first.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.shared.links()
    }

    /// Waits until the configured links differ from `known`, at most `limit`; returns them.
    pub fn wait_for_change(&self, known: &[Link], limit: Duration, on_event: &dyn Fn(&str)) -> Vec<Link> {
        self.shared.wait(limit, |state| state.links != known);
        self.events().iter().for_each(|event| on_event(event));
        self.links()
    }

    /// What happened since the last call.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        self.shared.take_events()
    }

    /// Whether the thread has given up, so that what [`Self::links`] shows is stale.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Makes a link the preferred one: its IPv4 prefix and default route go before those of all others.
    ///
    /// # Errors
    /// [`Code::NetNoLink`] when it is gone; [`Code::Sys`] when the kernel refuses a route.
    pub fn activate(&self, link: &Link) -> Result<(), Fault> {
        let (reply, answer) = std::sync::mpsc::channel();
        self.command(Command::Activate { name: link.name.clone(), reply }, &answer)
    }

    /// Asks for leases anew: what their servers give may have been mended, and a lease can last for days. What links have they keep
    /// until they get another.
    ///
    /// # Errors
    /// [`Code::Internal`] when the thread has ended.
    pub fn ask_again(&self) -> Result<(), Fault> {
        let (reply, answer) = std::sync::mpsc::channel();
        self.command(Command::AskAgain { reply }, &answer)
    }

    /// Leaves the links to the next system: addresses, routes and the interfaces made here are removed, cards stay up so
    /// that their carrier is there at once.
    ///
    /// # Errors
    /// [`Code::Sys`] with the first request that the kernel refused; the others were made all the same.
    pub fn down(self) -> Result<(), Fault> {
        let (reply, answer) = std::sync::mpsc::channel();
        self.command(Command::Down { reply }, &answer)
    }

    fn command(
        &self,
        command: Command,
        answer: &std::sync::mpsc::Receiver<Result<(), Fault>>,
    ) -> Result<(), Fault> {
        let gone = || Fault::new(Code::Internal, "the network thread has ended");
        self.commands.as_ref().ok_or_else(gone)?.send(command).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
