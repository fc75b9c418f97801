//! The kernel's messages about devices that come and go: netlink(7), NETLINK_KOBJECT_UEVENT.
//!
//! Format: lib/kobject_uevent.c: `ACTION@DEVPATH`, then `KEY=VALUE` fields, all ended by zero bytes.

use crate::error::{Context, Result};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The multicast group of the kernel itself; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// The kernel's messages are at most `UEVENT_BUFFER_SIZE` = 2048 bytes and a header (include/linux/kobject.h).
const MESSAGE_BYTES: usize = 8192;
/// Room for the burst when a controller with hundreds of devices appears; udev asks for more, but handles more kinds.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `bind`, …
    pub action: String,
    /// Path below /sys, with a leading slash.
    pub devpath: String,
    /// `block`, `pci`, …
    pub subsystem: Option<String>,
    /// `MODALIAS`: what a driver is found by.
    pub modalias: Option<String>,
}

impl Uevent {
    /// Parses a message; `None` for anything that is not the kernel's.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let mut fields = text.split('\0');
        let (action, devpath) = fields.next()?.split_once('@')?;
        if action.is_empty() || !devpath.starts_with('/') {
            return None;
        }
        let (mut subsystem, mut modalias) = (None, None);
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "SUBSYSTEM" => subsystem = Some(value.to_owned()),
                "MODALIAS" => modalias = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(Self { action: action.to_owned(), devpath: devpath.to_owned(), subsystem, modalias })
    }
}

/// What waiting for a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Event(Uevent),
    /// Messages were lost: look at sysfs again.
    Overflow,
    /// Nothing came in time.
    Timeout,
}

/// A socket that receives the kernel's messages from now on.
#[derive(Debug)]
pub struct UeventSocket(OwnedFd);

impl UeventSocket {
    /// Opens it.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open() -> Result<Self> {
        let object = "NETLINK_KOBJECT_UEVENT";
        let flags = SocketFlags::CLOEXEC;
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))
                .of("socket", object)?;
        // Without CAP_NET_ADMIN the kernel's default stays, and an overflow is reported as such.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES);
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, KERNEL_GROUP)).of("bind", object)?;
        Ok(Self(fd))
    }

    /// Waits for the next message, for `timeout` at most.
    ///
    /// # Errors
    /// What poll(2) and recv(2) say.
    pub fn receive(&self, timeout: Duration) -> Result<Received> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let deadline = crate::time::since_boot() + timeout;
        loop {
            let left = deadline.saturating_sub(crate::time::since_boot());
            let wait = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, Some(&wait)) {
                Ok(0) => return Ok(Received::Timeout),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).of("poll", "NETLINK_KOBJECT_UEVENT"),
            }
            if let Some(received) = self.take()? {
                return Ok(received);
            }
        }
    }

    fn take(&self) -> Result<Option<Received>> {
        let mut buffer = [0_u8; MESSAGE_BYTES];
        match rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((_, bytes)) => Ok(buffer.get(..bytes).and_then(Uevent::parse).map(Received::Event)),
            Err(rustix::io::Errno::NOBUFS) => Ok(Some(Received::Overflow)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error).of("recv", "NETLINK_KOBJECT_UEVENT"),
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Received, Uevent, UeventSocket};
    use proptest::prelude::{any, prop_assert, proptest};

    #[test]
    fn a_message_of_the_kernel_is_parsed() {
        let message = b"add@/devices/pci0000:00/0000:00:04.0\0ACTION=add\0DEVPATH=/devices/pci0000:00/0000:00:04.0\0\
            SUBSYSTEM=pci\0PCI_CLASS=10802\0MODALIAS=pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\0SEQNUM=912\0";
        let event = Uevent::parse(message).unwrap();
        assert_eq!((event.action.as_str(), event.subsystem.as_deref()), ("add", Some("pci")));
        assert_eq!(event.devpath, "/devices/pci0000:00/0000:00:04.0");
        assert!(event.modalias.unwrap().starts_with("pci:v00001B36"));
    }

    #[test]
    fn other_messages_are_no_events() {
        for message in
            [&b""[..], b"libudev\0\xfe\xed\xca\xfe", b"add", b"add@relative\0", b"@/x\0", b"add@/\xff\0"]
        {
            assert_eq!(Uevent::parse(message), None, "{message:?}");
        }
    }

    #[test]
    fn nothing_comes_in_no_time() {
        // Where netlink is not permitted at all there is nothing to see.
        let socket = UeventSocket::open().unwrap();
        let received = socket.receive(std::time::Duration::ZERO).unwrap();
        assert!(matches!(received, Received::Timeout | Received::Event(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, path in any::<String>()) {
            let _ = Uevent::parse(&bytes);
            let message = format!("add@/{path}\0SUBSYSTEM=x\0");
            prop_assert!(Uevent::parse(message.as_bytes()).is_some());
        }
    }
}
