//! A TCP port of the host that stays one test's own while nobody listens there.

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// The port, held by a socket that never listens: connections are refused, and no other test is given it by the kernel. Who knows the
/// number can listen there, and stop and listen again, by SO_REUSEADDR (socket(7)), which `TcpListener::bind` and QEMU's
/// forwards set.
pub struct Port {
    address: SocketAddr,
    _held: OwnedFd,
}

impl Port {
    /// A port of this address that was free.
    ///
    /// # Panics
    /// When the kernel has none.
    #[must_use]
    pub fn held(address: IpAddr) -> Self {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        // A program that the test starts is not to hold it, too.
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
        bind(&socket, &SocketAddr::new(address, 0)).expect("a free port");
        let address = getsockname(&socket).expect("its address").try_into().expect("an IP address");
        Self { address, _held: socket }
    }

    /// Address and number.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}
