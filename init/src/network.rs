//! Steps: the network and the clock.

use crate::machine::Machine;
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tatara_http::dns::Servers;
use tatara_http::fetch::{Client, Timing};
use tatara_http::tls::Trust;
use tatara_init::clock::{self, Clock};
use tatara_init::drivers::Class;
use tatara_init::net::{Link, Network};
use tatara_spec::{Code, Fault};

/// CAs to trust beside the pins of the command line.
pub(crate) const CA_FILE: &str = "/etc/tatara/ca.pem";
/// Time servers get this long: a firewalled NTP must not hold the node (talos#5274).
const NTP_DEADLINE: Duration = Duration::from_secs(5);

/// The network, once at least one link has an address.
pub(crate) struct Online {
    pub(crate) network: Network,
    /// The link whose way reached the config server; at first the one that was configured first.
    pub(crate) link: Link,
    tls: Arc<ClientConfig>,
}

impl Online {
    /// A client that uses the link in use.
    pub(crate) fn client(&self) -> Result<Client, Fault> {
        Client::new(Arc::clone(&self.tls), self.servers(), Timing::default())
    }

    /// The name servers of the link in use.
    pub(crate) fn servers(&self) -> Servers {
        Servers::new(&self.link.dns, self.link.domain.as_deref())
    }

    /// Makes another link the one in use.
    pub(crate) fn switch_to(&mut self, link: Link) -> Result<(), Fault> {
        self.network.activate(&link)?;
        self.link = link;
        Ok(())
    }
}

/// Step: all links at once, until the first has an address. Stays up over later tries.
pub(crate) fn up(m: &mut Machine) -> Result<((), String), Fault> {
    // A thread that gave up leaves links behind that nobody renews: begin anew.
    m.online.take_if(|online| online.network.has_ended());
    if m.online.is_none() {
        let report = m.drivers.coldplug(Class::Network)?;
        for (module, error) in &report.failed {
            m.reporter.info(&format!("driver {module} could not be loaded: {error}"));
        }
        let network = Network::bring_up(&m.line.network, &|event| m.reporter.info(event))?;
        let no_link = || Fault::new(Code::NetNoLink, "no link has an address");
        let link = network.links().into_iter().next().ok_or_else(no_link)?;
        network.activate(&link)?;
        m.online = Some(Online { network, link, tls: trust(m)?.client()? });
    }
    if let Some(online) = &mut m.online {
        online.network.events().iter().for_each(|event| m.reporter.info(event));
        // The lease may be another by now.
        let now = online.network.links().into_iter().find(|link| link.name == online.link.name);
        if let Some(link) = now.filter(|link| *link != online.link) {
            online.switch_to(link)?;
        }
    }
    let link = m.online.as_ref().map(|online| online.link.to_string()).unwrap_or_default();
    Ok(((), link))
}

fn trust(m: &Machine) -> Result<Trust, Fault> {
    let pem = match std::fs::read(Path::new(CA_FILE)) {
        Ok(pem) => Some(pem),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Fault::caused(Code::Sys, format!("cannot read {CA_FILE}"), e)),
    };
    Trust::new(m.line.ca_pins.clone(), pem.as_deref())
}

/// Step: the clock. A wrong clock is no failure by itself: TLS says so when it matters, with the dates.
pub(crate) fn set_clock(m: &mut Machine) -> Result<((), String), Fault> {
    let mut clock: Clock = clock::raise_to_floor(m.build.release_epoch, Path::new("/"))?;
    let online = online(m)?;
    let mut servers = m.line.ntp.clone();
    servers.extend(online.link.ntp.iter().map(ToString::to_string));
    if !servers.is_empty()
        && let Err(fault) = clock.synchronise(&servers, &online.servers(), NTP_DEADLINE)
    {
        m.reporter.info(&format!("{}: {}; going on with {clock}", fault.code, fault.chain()));
    }
    let text = clock.to_string();
    m.clock = Some(clock.source);
    Ok(((), text))
}

/// The network, for steps that come after it.
pub(crate) fn online(m: &Machine) -> Result<&Online, Fault> {
    m.online.as_ref().ok_or_else(|| Fault::new(Code::Internal, "the network is not up"))
}
