//! DHCP servers: anybody on the link can be one.
//!
//! The client is the real one, in a network namespace of its own (scripts/own-network): its parser cannot be called alone. After each hostile packet comes a good one, which ends the
//! exchange whatever became of the first: nothing waits for a timer.

use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4State, DhcpV6Client, DhcpV6Config, DhcpV6Mode, DhcpV6State};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tatara_init::net::dhcp::{Lease, lease4, lease6};
use tatara_spec::cmdline::Placeholders;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

/// Loopback's index in every network namespace.
const LOOPBACK: u32 = 1;

/// Ends of the pair of links that scripts/own-network makes: the client's and the server's index and address.
const CLIENT6: (u32, Ipv6Addr) = (10, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
const SERVER6_INDEX: u32 = 11;

/// How long a whole exchange may take; some refusals make the client wait for seconds, and then there is no lease.
const PATIENCE: Duration = Duration::from_millis(200);

struct Server {
    runtime: Runtime,
    socket: UdpSocket,
}

impl Server {
    fn new(address: &str, group: Option<Ipv6Addr>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let bind = || async {
            let socket = UdpSocket::bind(address).await?;
            group.map_or(Ok(()), |group| socket.join_multicast_v6(&group, SERVER6_INDEX))?;
            io::Result::Ok(socket)
        };
        let socket = runtime
            .block_on(bind())
            .unwrap_or_else(|error| panic!("{address}: {error}; run it by scripts/own-network"));
        Self { runtime, socket }
    }

    /// Forgets what an exchange that was given up left.
    fn drain(&self) {
        while self.socket.try_recv(&mut [0; 2048]).is_ok() {}
    }

    /// Waits for a request and answers with these packets, to each of which `address` gives the request's identity.
    async fn answer(&self, to: SocketAddr, packets: [Vec<u8>; 2], identify: fn(&mut [u8], &[u8])) {
        let mut request = [0; 2048];
        let Ok((count, _)) = self.socket.recv_from(&mut request).await else { return };
        for mut packet in packets {
            identify(&mut packet, &request[..count]);
            // A port unreachable of the packet before is told here.
            let _ = self.socket.send_to(&packet, to).await;
        }
    }
}

/// Lets the client's random delay before its first message pass at once.
async fn skip_delay(client: &mut (impl Future + Unpin)) {
    poll_fn(|context| {
        assert!(std::pin::Pin::new(&mut *client).poll(context).is_pending(), "the client waits first");
        Poll::Ready(())
    })
    .await;
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
}

/// The two hostile packets of an input: the first byte says where the second begins.
fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((cut, rest)) = input.split_first() else { return (&[], &[]) };
    rest.split_at(rest.len().min(2 * usize::from(*cut)))
}

thread_local! {
    static SERVER4: Server = Server::new("0.0.0.0:67", None);
    static SERVER6: Server = Server::new("[::]:547", Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2)));
}

/// RFC 2131, figure 1: a reply with these options.
fn message4(options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 236];
    (message[0], message[1], message[2]) = (2, 1, 6);
    message[16..20].copy_from_slice(&[192, 0, 2, 15]);
    message.extend([99, 130, 83, 99]);
    message.extend_from_slice(options);
    message
}

/// A hostile packet: an even first byte says that what follows are options only.
fn hostile4(input: &[u8]) -> Vec<u8> {
    match input.split_first() {
        Some((kind, rest)) if kind % 2 == 1 => rest.to_vec(),
        Some((_, rest)) => message4(rest),
        None => Vec::new(),
    }
}

/// Message type, lease time, server, mask.
fn good4(kind: u8) -> Vec<u8> {
    message4(&[53, 1, kind, 51, 4, 0, 0, 14, 16, 54, 4, 192, 0, 2, 1, 1, 4, 255, 255, 255, 0, 255])
}

fn identify4(packet: &mut [u8], request: &[u8]) {
    if let (Some(to), Some(from)) = (packet.get_mut(4..8), request.get(4..8)) {
        to.copy_from_slice(from);
    }
}

/// DHCPv4: an offer and an acknowledgement.
pub(crate) fn v4(input: &[u8]) {
    let (offer, ack) = halves(input);
    let lease = SERVER4.with(|server| {
        server.drain();
        server.runtime.block_on(async {
            tokio::time::pause();
            tokio::time::timeout(PATIENCE + Duration::from_secs(1), exchange4(server, offer, ack)).await
        })
    });
    if let Ok(Some(lease)) = lease {
        check(&lease);
    }
}

async fn exchange4(server: &Server, offer: &[u8], ack: &[u8]) -> Option<Lease> {
    let mut config = DhcpV4Config::new("lo");
    config.set_iface_index(LOOPBACK).set_timeout_sec(20);
    config.set_iface_mac_raw(&[2, 0, 0, 0, 0, 1]).expect("a MAC address");
    config.use_mac_as_client_id();
    let mut client = DhcpV4Client::init(config, None).await.expect("a client");
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 68));
    {
        let mut run = pin!(client.run());
        skip_delay(&mut run).await;
        let answer = server.answer(to, [hostile4(offer), good4(2)], identify4);
        tokio::join!(run, answer).0.ok()?;
    }
    let answer = server.answer(to, [hostile4(ack), good4(5)], identify4);
    match tokio::join!(client.run(), answer).0 {
        Ok(DhcpV4State::Done(lease)) => Some(lease4(&lease)),
        _ => None,
    }
}

/// RFC 8415, section 8: type, transaction id, options. The client's identifier and the server's come from [`identify6`].
fn message6(kind: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(options);
    message
}

/// Client and server identifiers, IA_NA with one address.
const GOOD6: &[u8] = &[
    0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1, // client: DUID-LL
    0, 2, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 2, // server: DUID-LL
    0, 3, 0, 40, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 90, // IA_NA: id, T1, T2
    0, 5, 0, 24, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 120, 0, 0, 0, 240,
];

fn identify6(packet: &mut [u8], request: &[u8]) {
    if let (Some(to), Some(from)) = (packet.get_mut(1..4), request.get(1..4)) {
        to.copy_from_slice(from);
    }
}

/// DHCPv6: an advertisement and a reply.
pub(crate) fn v6(input: &[u8]) {
    let (advertise, reply) = halves(input);
    let lease = SERVER6.with(|server| {
        server.drain();
        server.runtime.block_on(async {
            tokio::time::pause();
            tokio::time::timeout(PATIENCE + Duration::from_secs(1), exchange6(server, advertise, reply)).await
        })
    });
    if let Ok(Some(lease)) = lease {
        check(&lease);
    }
}

async fn exchange6(server: &Server, advertise: &[u8], reply: &[u8]) -> Option<Lease> {
    let mut config = DhcpV6Config::new("tatara6c", DhcpV6Mode::NonTemporaryAddresses);
    config.set_iface_index(CLIENT6.0).set_link_local_ip(CLIENT6.1).set_timeout_sec(20);
    config.set_duid_by_iface_mac(&[2, 0, 0, 0, 0, 1]);
    let mut client = DhcpV6Client::init(config, None).await.expect("a client");
    let to = SocketAddrV6::new(CLIENT6.1, 546, 0, SERVER6_INDEX).into();
    {
        let mut run = pin!(client.run());
        skip_delay(&mut run).await;
        let answer = server.answer(to, [message6(2, advertise), message6(2, GOOD6)], identify6);
        tokio::join!(run, answer).0.ok()?;
    }
    let answer = server.answer(to, [message6(7, reply), message6(7, GOOD6)], identify6);
    match tokio::join!(client.run(), answer).0 {
        Ok(DhcpV6State::Done(lease)) => Some(lease6(&lease)),
        _ => None,
    }
}

/// A lease that we would use: its numbers make sense, and its texts are one segment of a URL at most.
fn check(lease: &Lease) {
    for (address, length) in &lease.addresses {
        assert!(*length <= if address.is_ipv4() { 32 } else { 128 }, "{lease:?}");
    }
    for ((address, length), _) in &lease.routes {
        assert!(*length <= if address.is_ipv4() { 32 } else { 128 }, "{lease:?}");
    }
    assert!(lease.seconds > 0, "{lease:?}");
    let values = Placeholders { hostname: lease.hostname.clone(), ..Placeholders::default() };
    if let Ok(url) = values.fill("https://boot.example/${hostname}") {
        assert!(!url.contains(|c: char| c.is_control() || c == ' '), "{url:?}");
        assert_eq!(url.matches('/').count(), 3, "{url}");
    }
}
