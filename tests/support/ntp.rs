//! A time server whose time the test decides, and which may be silent.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Seconds from 1900, where NTP's time starts, to 1970 (RFC 5905, section 6).
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

/// RFC 5905, section 7.2.
const PORT: u16 = 123;

/// The server; it answers until the test program ends.
pub struct Ntp {
    /// Its UDP port on loopback.
    pub port: u16,
    now: Arc<Mutex<Option<SystemTime>>>,
}

impl Default for Ntp {
    /// One that is silent.
    fn default() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP port");
        let port = socket.local_addr().expect("its address").port();
        let now = Arc::new(Mutex::new(None));
        let told = Arc::clone(&now);
        let says = move || *told.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::spawn(move || serve(&socket, says));
        Self { port, now }
    }
}

/// An operator's time server, which has the host's time, at an address of a namespace.
///
/// # Panics
/// When the port of time servers cannot be had there.
pub fn of_the_host(address: &str) {
    let address: Ipv4Addr = address.parse().expect("an address");
    let socket = UdpSocket::bind((address, PORT)).expect("the port of time servers");
    std::thread::spawn(move || serve(&socket, || Some(SystemTime::now())));
}

impl Ntp {
    /// From now on it says this time, whatever the clock does.
    pub fn says(&self, unix_s: u64) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(unix_s);
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

/// Mode 4, stratum 1 (RFC 5905, section 7.3); the client's time stamp is given back to it.
fn serve(socket: &UdpSocket, says: impl Fn() -> Option<SystemTime>) {
    let mut packet = [0; 48];
    while let Ok((48, from)) = socket.recv_from(&mut packet) {
        let Some(unix) = says().and_then(|now| now.duration_since(SystemTime::UNIX_EPOCH).ok()) else {
            continue;
        };
        // The era counter wraps in 2036 (RFC 5905, section 6).
        let seconds = ((unix.as_secs() + NTP_TO_UNIX_S) & 0xffff_ffff) as u32;
        let mut answer = [0; 48];
        answer[0] = 0b00_100_100;
        answer[1] = 1;
        answer[24..32].copy_from_slice(&packet[40..48]);
        for field in [16, 32, 40] {
            answer[field..field + 4].copy_from_slice(&seconds.to_be_bytes());
        }
        // A machine that has gone asks no more.
        let _ = socket.send_to(&answer, from);
    }
}
