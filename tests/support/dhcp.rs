//! A DHCP server that does as the test says: nothing, refuse, leave things out, or be two.

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder, Encodable as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// RFC 2131, section 4.1.
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// How often the server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// What one server gives.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The server's own address.
    pub server: Ipv4Addr,
    /// The machine's.
    pub address: Ipv4Addr,
    /// Option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Option<Ipv4Addr>,
    /// Option 42.
    pub ntp: Option<Ipv4Addr>,
    /// Option 51, in seconds; it is renewed after half of that.
    pub seconds: u32,
    /// So many requests for what was offered are refused (DHCPNAK).
    pub refusals: u32,
}

impl Lease {
    /// An address, and nothing else.
    #[must_use]
    pub fn new(server: [u8; 4], address: [u8; 4]) -> Self {
        Self {
            server: server.into(),
            address: address.into(),
            router: None,
            dns: None,
            ntp: None,
            seconds: 3600,
            refusals: 0,
        }
    }
}

/// What is given, now and later.
#[derive(Default)]
struct Given {
    now: Vec<Lease>,
    /// From the next lease on.
    then: Option<Vec<Lease>>,
}

/// The servers on one network; they end with the value.
pub struct Dhcp {
    given: Arc<Mutex<Given>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dhcp {
    /// Answers on the tap `interface`. With no lease it is silent.
    ///
    /// # Panics
    /// When the port cannot be had: a test of DHCP runs in a namespace of its own.
    #[must_use]
    pub fn start(interface: &str, leases: Vec<Lease>) -> Self {
        // The machine has no address yet, so that answers are broadcast, and broadcasts need a way.
        crate::lan::ip(&format!("route add 255.255.255.255/32 dev {interface}"));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).expect("the port of DHCP servers");
        socket.set_broadcast(true).expect("broadcasts");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let given = Arc::new(Mutex::new(Given { now: leases, then: None }));
        let stop = Arc::new(Mutex::new(false));
        let (giving, ended) = (Arc::clone(&given), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !*lock(&ended) {
                serve_one(&socket, &giving);
            }
        });
        Self { given, stop, thread: Some(thread) }
    }

    /// From now on these are given.
    pub fn gives(&self, leases: Vec<Lease>) {
        *lock(&self.given) = Given { now: leases, then: None };
    }

    /// These are given to who asks again when one of those now was given.
    pub fn then_gives(&self, leases: Vec<Lease>) {
        lock(&self.given).then = Some(leases);
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        *lock(&self.stop) = true;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve_one(socket: &UdpSocket, given: &Mutex<Given>) {
    let mut packet = [0; 1500];
    let Ok((length, from)) = socket.recv_from(&mut packet) else { return };
    let Ok(request) = Message::decode(&mut Decoder::new(&packet[..length])) else { return };
    let mut given = lock(given);
    let mut acknowledged = false;
    for lease in &mut given.now {
        let Some(kind) = answer_kind(&request, lease) else { continue };
        let bytes = answer(&request, lease, kind).to_vec().expect("an answer");
        // A renewal comes from an address, and goes back there (RFC 2131, section 4.1).
        let to = if request.ciaddr().is_unspecified() {
            SocketAddr::from((Ipv4Addr::BROADCAST, CLIENT_PORT))
        } else {
            from
        };
        // A machine that has gone asks no more.
        let _ = socket.send_to(&bytes, to);
        acknowledged |= kind == MessageType::Ack;
    }
    if let Some(leases) = given.then.take_if(|_| acknowledged) {
        given.now = leases;
    }
}

/// `None`: this server has nothing to say.
fn answer_kind(request: &Message, lease: &mut Lease) -> Option<MessageType> {
    match request.opts().msg_type()? {
        MessageType::Discover => Some(MessageType::Offer),
        MessageType::Request => {
            let chosen = match request.opts().get(OptionCode::ServerIdentifier) {
                Some(DhcpOption::ServerIdentifier(server)) => *server == lease.server,
                // Of a renewal the address decides.
                _ => request.ciaddr() == lease.address,
            };
            let kind = if lease.refusals > 0 { MessageType::Nak } else { MessageType::Ack };
            lease.refusals -= u32::from(chosen && lease.refusals > 0);
            chosen.then_some(kind)
        }
        _ => None,
    }
}

fn answer(request: &Message, lease: &Lease, kind: MessageType) -> Message {
    let mut message = Message::default();
    message.set_opcode(Opcode::BootReply).set_xid(request.xid()).set_chaddr(request.chaddr());
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(lease.server));
    if kind != MessageType::Nak {
        options.insert(DhcpOption::AddressLeaseTime(lease.seconds));
        options.insert(DhcpOption::SubnetMask([255, 255, 255, 0].into()));
        let more = [
            lease.router.map(|ip| DhcpOption::Router(vec![ip])),
            lease.dns.map(|ip| DhcpOption::DomainNameServer(vec![ip])),
            lease.ntp.map(|ip| DhcpOption::NtpServers(vec![ip])),
        ];
        more.into_iter().flatten().for_each(|option| drop(options.insert(option)));
        message.set_yiaddr(lease.address);
    }
    message
}
