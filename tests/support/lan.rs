//! Networks of the tests' own: a network namespace with taps in it, so that a test is the DHCP server; a segment for several cards of
//! one machine; and a port that tags.

use nix::sched::CloneFlags;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
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

/// QEMU's arguments for cards with these MAC addresses on one segment, behind which is QEMU's user network. Where a port is given, it
/// leads from the host's loopback to the machine's SSH port, over whichever card answers.
#[must_use]
pub fn segment(macs: &[&str], ssh: Option<u16>) -> Vec<String> {
    let forward = ssh.map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-:22")).unwrap_or_default();
    let mut args = vec!["-netdev".to_owned(), format!("user,id=user{forward}")];
    args.extend(["-netdev", "hubport,id=hub,hubid=0,netdev=user"].map(str::to_owned));
    for (i, mac) in macs.iter().enumerate() {
        args.extend(["-netdev".to_owned(), format!("hubport,id=net{i},hubid=0")]);
        let card = format!("virtio-net-pci,id=nic{i},netdev=net{i},mac={mac},romfile=");
        args.extend(["-device".to_owned(), card]);
    }
    args
}

/// A switch port that carries one VLAN, tagged (IEEE 802.1Q): untagged frames do not get through. Behind it is QEMU's user network.
/// Frames come and go by sockets in a directory.
pub struct Trunk {
    machine: PathBuf,
    network: PathBuf,
}

/// Bytes of the two MAC addresses, after which a tag stands.
const ADDRESSES: usize = 12;
/// EtherType of a tag.
const TAGGED: [u8; 2] = [0x81, 0x00];

impl Trunk {
    /// A port for this VLAN, whose sockets are in this directory as long as there is a machine.
    ///
    /// # Panics
    /// When there can be no socket.
    #[must_use]
    pub fn new(vlan: u16, dir: &Path) -> Self {
        let (at_machine, at_network) = (dir.join("trunk-machine"), dir.join("trunk-network"));
        let socket = |end: &Path| Arc::new(UnixDatagram::bind(ours(end)).expect("a socket"));
        let (machine, network) = (socket(&at_machine), socket(&at_network));
        let tag = [TAGGED, vlan.to_be_bytes()].concat();
        let (from, into, head) = (Arc::clone(&machine), Arc::clone(&network), tag.clone());
        let to = qemus(&at_network);
        std::thread::spawn(move || {
            carry(&from, &into, &to, |frame| {
                let tagged = frame.get(ADDRESSES..ADDRESSES + 4)? == head;
                tagged.then(|| [&frame[..ADDRESSES], &frame[ADDRESSES + 4..]].concat())
            });
        });
        let to = qemus(&at_machine);
        std::thread::spawn(move || {
            carry(&network, &machine, &to, |frame| {
                let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
                Some([addresses, &tag, rest].concat())
            });
        });
        Self { machine: at_machine, network: at_network }
    }

    /// QEMU's arguments: a card at this port, with this MAC address.
    #[must_use]
    pub fn arguments(&self, mac: &str) -> Vec<String> {
        let dgram = |id: &str, end: &Path| {
            format!(
                "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                qemus(end).display(),
                ours(end).display()
            )
        };
        let netdevs = [
            dgram("net0", &self.machine),
            dgram("trunk", &self.network),
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

fn ours(end: &Path) -> PathBuf {
    end.with_extension("ours")
}

fn qemus(end: &Path) -> PathBuf {
    end.with_extension("qemus")
}

fn carry(from: &UnixDatagram, into: &UnixDatagram, to: &Path, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut frame = [0; 65536];
    loop {
        let length = from.recv(&mut frame).expect("a frame");
        if let Some(changed) = change(&frame[..length]) {
            // QEMU may not have its socket yet, or not any more: a cable does not know either.
            let _ = into.send_to(&changed, to);
        }
    }
}
