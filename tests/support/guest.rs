//! A machine in QEMU, its disks, and what it prints.

use crate::console::{Console, Waited};
use crate::lan;
use crate::port::Port;
use crate::server::Server;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::rc::Rc;
use std::time::Duration;

pub use tatara::vm::{Bus, CpuShape, Firmware};

/// How the machine is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// iPXE in the NIC's ROM loads `boot.ipxe` over HTTP; on a tap the firmware does what the DHCP server there says.
    Pxe,
    /// A USB stick made by `tatara image usb`.
    Usb,
    /// Kernel and initramfs handed to the machine by QEMU.
    Direct,
    /// The disk alone.
    Disk,
    /// The kernel, initramfs and arguments of [`Setup::given`].
    Given,
}

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nic {
    /// virtio-net.
    Virtio,
    /// virtio-net without a carrier.
    VirtioWithoutLink,
    /// Intel 82574L.
    E1000e,
}

/// A machine to be; its disks live as long as a clone of it.
#[derive(Clone)]
pub struct Setup {
    pub(crate) firmware: Firmware,
    pub(crate) start: Start,
    pub(crate) memory_mib: u32,
    pub(crate) nics: Vec<Nic>,
    pub(crate) disks: Vec<(Bus, u32)>,
    files: Rc<Files>,
    pub(crate) ssh_port: Option<Rc<Port>>,
    pub(crate) given: Option<(PathBuf, PathBuf, String)>,
    pub(crate) shape: Option<CpuShape>,
    pub(crate) free_slot: bool,
    /// Instead of the server's own pin.
    pub pin: Option<String>,
    /// `console=` arguments, in order.
    pub(crate) consoles: Vec<&'static str>,
    /// Further kernel arguments.
    pub(crate) kernel_args: Vec<&'static str>,
    /// Further arguments of QEMU.
    pub qemu_args: Vec<String>,
    /// What stands between the first disk and its file.
    pub(crate) between: Option<serde_json::Value>,
    /// The last disk comes first on the bus.
    pub(crate) swapped: bool,
    /// Clock at power-on, `2011-01-01T00:00:00`; the host's when `None`.
    pub rtc: Option<String>,
    /// Taps of the host that the NICs are connected to, in order; QEMU's user network where there is none.
    pub taps: Vec<String>,
}

struct Files {
    dir: PathBuf,
    // Removed with the machine, unless its disks are to be kept.
    _temporary: Option<tempfile::TempDir>,
    gib: u64,
}

/// Sparse files of this size stand for disks: the smallest disk that can be installed to, with room for state to grow.
const DISK_GIB: u64 = 12;

impl Setup {
    /// One virtio disk, one virtio NIC, 1 GiB of memory, two CPUs.
    #[must_use]
    pub fn new(firmware: Firmware, start: Start) -> Self {
        let setup = Self {
            firmware,
            start,
            memory_mib: 1024,
            nics: vec![Nic::Virtio],
            disks: vec![(Bus::VirtioBlk, 512)],
            files: Rc::new(Files::new(DISK_GIB)),
            ssh_port: None,
            given: None,
            shape: None,
            free_slot: false,
            pin: None,
            consoles: vec!["ttyS0"],
            kernel_args: Vec::new(),
            qemu_args: Vec::new(),
            between: None,
            swapped: false,
            rtc: None,
            taps: Vec::new(),
        };
        setup.make_disks();
        setup
    }

    /// These disks instead: bus and logical sector size in bytes.
    #[must_use]
    pub fn disks(mut self, disks: &[(Bus, u32)]) -> Self {
        self.disks = disks.to_vec();
        self.make_disks();
        self
    }

    /// Disks of this size instead.
    #[must_use]
    pub fn disk_gib(mut self, gib: u64) -> Self {
        self.files = Rc::new(Files::new(gib));
        self.make_disks();
        self
    }

    /// Disks that stay in a directory when the machine is gone; what was there is replaced.
    #[must_use]
    pub fn kept_in(mut self, dir: &Path) -> Self {
        self.files = Rc::new(Files { dir: dir.to_owned(), _temporary: None, gib: DISK_GIB });
        self.make_disks();
        self
    }

    /// These NICs instead.
    #[must_use]
    pub fn nics(mut self, nics: &[Nic]) -> Self {
        self.nics = nics.to_vec();
        self
    }

    /// These consoles instead of the serial one alone.
    #[must_use]
    pub fn consoles(mut self, names: &[&'static str]) -> Self {
        self.consoles = names.to_vec();
        self
    }

    /// The VGA console beside the serial one.
    #[must_use]
    pub fn vga_console(self) -> Self {
        self.consoles(&["tty0", "ttyS0"])
    }

    /// A further argument for the kernel.
    #[must_use]
    pub fn kernel_arg(mut self, arg: &'static str) -> Self {
        self.kernel_args.push(arg);
        self
    }

    /// Further arguments for QEMU.
    #[must_use]
    pub fn qemu_args(mut self, args: &[&str]) -> Self {
        self.qemu_args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// A node of QEMU's block layer in the place of the first disk's file, see [`crate::medium`].
    #[must_use]
    pub fn between(mut self, node: serde_json::Value) -> Self {
        self.between = Some(node);
        self
    }

    /// The first disk as it is, again.
    #[must_use]
    pub fn nothing_between(mut self) -> Self {
        self.between = None;
        self
    }

    /// The same disks in the opposite order on their bus; each keeps its file and serial number.
    #[must_use]
    pub fn swapped(&self) -> Self {
        Self { swapped: !self.swapped, ..self.clone() }
    }

    /// Whether there is a VGA console whose memory holds text: BIOS only, since UEFI's is pixels.
    #[must_use]
    pub fn has_vga_console(&self) -> bool {
        self.firmware == Firmware::Bios && self.consoles.contains(&"tty0")
    }

    /// This much memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// CPUs in this shape instead of two cores.
    #[must_use]
    pub fn shape(mut self, nodes: u32, cores: u32, threads: u32) -> Self {
        self.shape = Some(CpuShape { nodes, cores, threads });
        self
    }

    /// An empty PCI Express slot, for [`Guest::plug_nic`].
    #[must_use]
    pub fn free_slot(mut self) -> Self {
        self.free_slot = true;
        self
    }

    /// Forwards a port of the host to the machine's SSH port.
    ///
    /// # Panics
    /// When the host has no free port.
    #[must_use]
    pub fn ssh(mut self) -> Self {
        self.ssh_port = Some(Rc::new(Port::held(Ipv4Addr::LOCALHOST.into())));
        self
    }

    /// Cards with these MAC addresses on one segment, instead of a network for each.
    #[must_use]
    pub fn segment(mut self, macs: &[&str]) -> Self {
        self.nics.clear();
        let ssh = self.ssh_port.as_ref().map(|port| port.number());
        self.qemu_args.extend(lan::segment(macs, ssh));
        self
    }

    /// The same machine, started another way.
    #[must_use]
    pub fn again(&self, start: Start) -> Self {
        Self { start, ..self.clone() }
    }

    /// Kernel, initramfs and arguments for [`Start::Given`].
    #[must_use]
    pub fn given(mut self, kernel: &Path, initrd: &Path, append: &str) -> Self {
        self.given = Some((kernel.to_owned(), initrd.to_owned(), append.to_owned()));
        self
    }

    /// The MAC address of the NIC that works.
    #[must_use]
    pub fn mac(&self) -> String {
        let working = self.nics.iter().position(|nic| *nic != Nic::VirtioWithoutLink);
        mac(working.unwrap_or(0))
    }

    /// The files that stand for the disks.
    #[must_use]
    pub fn disk_paths(&self) -> Vec<PathBuf> {
        (0..self.disks.len()).map(|i| self.files.disk(i)).collect()
    }

    /// A directory that lives as long as the disks.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.files.dir
    }

    fn make_disks(&self) {
        for path in self.disk_paths() {
            let file = std::fs::File::create(&path).expect("a file for a disk");
            file.set_len(self.files.gib << 30).expect("its size");
        }
    }
}

impl Files {
    fn new(gib: u64) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        Self { dir: temporary.path().to_owned(), _temporary: Some(temporary), gib }
    }

    fn disk(&self, index: usize) -> PathBuf {
        self.dir.join(format!("disk{index}.raw"))
    }
}

pub(crate) fn mac(index: usize) -> String {
    format!("52:54:00:12:34:{:02x}", 0x56 + index)
}

/// A digest of all data in a sparse file, with its position; holes (lseek(2), SEEK_DATA) are not read.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn disk_digest(path: &Path) -> u64 {
    let mut file = std::fs::File::open(path).expect("the disk's file");
    let mut hasher = DefaultHasher::new();
    let mut block = vec![0; 1 << 20];
    let mut position = 0;
    loop {
        position = match rustix::fs::seek(&file, SeekFrom::Data(position)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return hasher.finish(),
            Err(error) => panic!("cannot seek in {}: {error}", path.display()),
        };
        let n = file.read(&mut block).expect("the disk's blocks");
        // A block of zeros is what a hole reads as: both must count the same.
        if block[..n] != vec![0; n] {
            hasher.write_u64(position);
            hasher.write(&block[..n]);
        }
        position += n as u64;
    }
}

/// A running machine; it ends with the value.
pub struct Guest {
    child: Child,
    console: Console,
    // Disks must outlive the machine that uses them.
    pub(crate) setup: Setup,
}

impl Guest {
    /// Starts it. `server` is needed for every start but from the disk, and from a tap's network.
    ///
    /// # Panics
    /// When QEMU cannot be started.
    #[must_use]
    pub fn start(setup: &Setup, server: Option<&Server>) -> Self {
        let mut child = crate::machine::start(setup, server);
        let console = Console::read(child.stdout.take().expect("its serial port"));
        Self { child, console, setup: setup.clone() }
    }

    /// Waits for the next console line that holds `needle`.
    ///
    /// # Panics
    /// When the machine ends or the deadline passes before; the message has the last lines.
    pub fn expect(&self, needle: &str, within: Duration) -> String {
        let why = match self.console.wait_for(needle, within) {
            Waited::Line(_, line) => return line,
            Waited::Ended => "the machine ended before".to_owned(),
            Waited::Late => format!("{} s passed before", within.as_secs()),
        };
        panic!("{why} `{needle}` was printed; the last lines:\n{}", self.tail());
    }

    /// Whether a line with `needle` comes before one with any of `failures`, the end, and the deadline.
    #[must_use]
    pub fn reaches(&self, needle: &str, failures: &[&str], within: Duration) -> bool {
        let wanted: Vec<&str> = failures.iter().copied().chain([needle]).collect();
        matches!(self.console.wait_for_any(&wanted, within), Waited::Line(_, line) if line.contains(needle))
    }

    /// A line that may have come already, or is still to come.
    ///
    /// # Panics
    /// As [`Self::expect`].
    pub fn printed(&self, needle: &str, within: Duration) {
        if self.console.all(needle).is_empty() {
            self.expect(needle, within);
        }
    }

    /// What the small payload's init found.
    ///
    /// # Panics
    /// As [`Self::expect`], or when it is not JSON.
    #[must_use]
    pub fn findings(&self, within: Duration) -> serde_json::Value {
        let line = self.expect("checker: {", within);
        let json = line.split_once("checker: ").map_or("", |(_, json)| json);
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{e} in `{json}`"))
    }

    /// How many kernels have started: one, and one more a kexec.
    #[must_use]
    pub fn kernels(&self) -> usize {
        self.console.all("] Linux version ").len()
    }

    /// Whether no line so far holds `needle`.
    #[must_use]
    pub fn never(&self, needle: &str) -> bool {
        self.console.all(needle).is_empty()
    }

    /// What it has printed.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Everything that it has printed, as text.
    #[must_use]
    pub fn transcript(&self) -> String {
        self.console.all("").into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// Bytes written to the first disk since power-on, as QEMU counts them.
    ///
    /// # Errors
    /// When QEMU's monitor does not answer.
    pub fn bytes_written(&self) -> anyhow::Result<u64> {
        let stats = self.monitor("query-blockstats", &serde_json::json!({}))?;
        let disks = stats.as_array().into_iter().flatten();
        let written = disks
            .filter(|disk| disk["device"] == "disk0")
            .filter_map(|disk| disk["stats"]["wr_bytes"].as_u64());
        Ok(written.sum())
    }

    /// The last lines, for a message.
    #[must_use]
    pub fn tail(&self) -> String {
        self.console.tail(60)
    }

    /// Waits until the machine has powered itself off.
    ///
    /// # Panics
    /// When it has not by the deadline.
    pub fn ended(&self, within: Duration) {
        let ended = matches!(self.console.wait_for("\0 never printed", within), Waited::Ended);
        assert!(ended, "the machine still runs after {} s:\n{}", within.as_secs(), self.tail());
    }

    /// The host's port that leads to the machine's SSH port.
    ///
    /// # Panics
    /// When the setup has none.
    #[must_use]
    pub fn ssh_port(&self) -> u16 {
        self.setup.ssh_port.as_ref().expect("Setup::ssh").number()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
