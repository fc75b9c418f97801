//! Networks of the tests' own: a network namespace with taps in it, so that a test is the DHCP server; and a port that tags.

use nix::sched::CloneFlags;
use rustix::process::{Pid, Signal, kill_process};
use std::net::{SocketAddr, UdpSocket};
use std::panic::resume_unwind;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Runs a test, and all that it starts, in a network namespace of its own. It has no name and is gone with the last process in it.
/// Gives what the test gives.
///
/// # Panics
/// When the kernel gives none (it needs root), or the test fails.
pub fn alone<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let within = move || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)
            .expect("a network namespace; tests of networks run as root");
        ip("link set lo up");
        test()
    };
    // A thread of the same name, because what a thread has left it cannot enter again.
    let thread = std::thread::Builder::new().name(name).spawn(within).expect("a thread");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs `ip` with these words.
///
/// # Panics
/// When it fails.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip of iproute2");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a tap with this address of the host, for a card of the machine.
///
/// # Panics
/// When the kernel refuses it.
pub fn tap(name: &str, address: &str) {
    ip(&format!("tuntap add {name} mode tap"));
    ip(&format!("addr add {address} dev {name}"));
    ip(&format!("link set {name} up"));
}

/// dnsmasq; it ends with the value.
pub struct Dnsmasq(Child);

impl Dnsmasq {
    /// Starts it with these arguments, and nothing of the host's.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ]);
        command.args(["--pid-file=", "--leasefile-ro", "--log-facility=/dev/null"]).args(args);
        Self(command.stdin(Stdio::null()).spawn().expect("dnsmasq"))
    }

    /// Has it read its files of hosts again.
    ///
    /// # Panics
    /// When it does not run any more.
    pub fn reads_hosts_again(&self) {
        let process = Pid::from_child(&self.0);
        kill_process(process, Signal::HUP).expect("dnsmasq runs");
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A switch port that carries one VLAN, tagged (IEEE 802.1Q): untagged frames do not get through. Behind it is QEMU's user network.
pub struct Trunk {
    machine: (u16, u16),
    network: (u16, u16),
}

/// Bytes of the two MAC addresses, after which a tag stands.
const ADDRESSES: usize = 12;
/// EtherType of a tag.
const TAGGED: [u8; 2] = [0x81, 0x00];

impl Trunk {
    /// A port for this VLAN.
    ///
    /// # Panics
    /// When there is no free UDP port.
    #[must_use]
    pub fn new(vlan: u16) -> Self {
        let sockets: [UdpSocket; 4] =
            std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a UDP port"));
        let ports = sockets.each_ref().map(|socket| socket.local_addr().expect("its address").port());
        let [machine, for_machine, network, for_network] = sockets;
        // QEMU has these two.
        drop((for_machine, for_network));
        let (machine, network) = (Arc::new(machine), Arc::new(network));
        let to = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let tag = [TAGGED, vlan.to_be_bytes()].concat();
        let (from, into, head, address) =
            (Arc::clone(&machine), Arc::clone(&network), tag.clone(), to(ports[3]));
        std::thread::spawn(move || {
            carry(&from, &into, address, |frame| {
                let tagged = frame.get(ADDRESSES..ADDRESSES + 4)? == head;
                tagged.then(|| [&frame[..ADDRESSES], &frame[ADDRESSES + 4..]].concat())
            });
        });
        let address = to(ports[1]);
        std::thread::spawn(move || {
            carry(&network, &machine, address, |frame| {
                let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
                Some([addresses, &tag, rest].concat())
            });
        });
        Self { machine: (ports[1], ports[0]), network: (ports[3], ports[2]) }
    }

    /// QEMU's arguments: a card at this port, with this MAC address.
    #[must_use]
    pub fn arguments(&self, mac: &str) -> Vec<String> {
        let dgram = |id: &str, (local, remote): (u16, u16)| {
            format!(
                "dgram,id={id},local.type=inet,local.host=127.0.0.1,local.port={local},\
                 remote.type=inet,remote.host=127.0.0.1,remote.port={remote}"
            )
        };
        let netdevs = [
            dgram("net0", self.machine),
            dgram("trunk", self.network),
            "user,id=user".to_owned(),
            "hubport,id=hub0,hubid=0,netdev=trunk".to_owned(),
            "hubport,id=hub1,hubid=0,netdev=user".to_owned(),
        ];
        let mut args: Vec<String> =
            netdevs.into_iter().flat_map(|netdev| ["-netdev".to_owned(), netdev]).collect();
        args.extend(["-device".to_owned(), format!("virtio-net-pci,id=nic0,netdev=net0,mac={mac},romfile=")]);
        args
    }
}

fn carry(from: &UdpSocket, into: &UdpSocket, to: SocketAddr, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut frame = [0; 65536];
    loop {
        // A port that nobody listens at yet is an error of the next call (ECONNREFUSED), not of the socket.
        let Ok(length) = from.recv(&mut frame) else { continue };
        if let Some(changed) = change(&frame[..length]) {
            let _ = into.send_to(&changed, to);
        }
    }
}
