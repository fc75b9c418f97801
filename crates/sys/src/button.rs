//! The power button, as ACPI's driver announces it: generic netlink, family `acpi_event` (kernel, drivers/acpi/event.c, drivers/acpi/button.c).
//!
//! The family is built in and the socket needs no device node, so this can be opened before any driver is loaded.

use crate::error::{Context, Result};
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const WHAT: &str = "ACPI's events";
/// Headers of netlink, generic netlink and an attribute, in bytes (include/uapi/linux/netlink.h, genetlink.h).
const NLMSG: usize = 16;
const GENL: usize = 4;
const ATTRIBUTE: usize = 4;
/// Message type, command and attributes of the controller (include/uapi/linux/genetlink.h).
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// `ACPI_GENL_FAMILY_NAME`; it has one multicast group.
const FAMILY: &[u8] = b"acpi_event\0";
/// `device_class` of a power button, the first field of the event.
const CLASS: &[u8] = b"button/power";
/// An event has under 100 bytes, the controller's answer a few hundred.
const MESSAGE_BYTES: usize = 4096;

/// A socket that hears of every press from now on.
#[derive(Debug)]
pub struct PowerButton(OwnedFd);

impl PowerButton {
    /// Opens it.
    ///
    /// # Errors
    /// What socket(2) and setsockopt(2) say; `ENOENT` on a kernel without ACPI.
    pub fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(GENERIC))
            .of("socket", WHAT)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0)).of("bind", WHAT)?;
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&fd, &get_family(), SendFlags::empty(), &kernel).of("sendto", WHAT)?;
        let mut answer = [0; MESSAGE_BYTES];
        // The controller answers within the call that asks.
        let (_, bytes) = rustix::net::recv(&fd, &mut answer, RecvFlags::DONTWAIT).of("recv", WHAT)?;
        let group = answer.get(..bytes).and_then(group);
        join(&fd, group.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)).of("find", WHAT)?)?;
        Ok(Self(fd))
    }

    /// Whether it was pressed since the last call.
    ///
    /// # Errors
    /// What recv(2) says.
    pub fn pressed(&self) -> Result<bool> {
        let mut pressed = false;
        let mut message = [0; MESSAGE_BYTES];
        loop {
            match rustix::net::recv(&self.0, &mut message, RecvFlags::DONTWAIT) {
                Ok((_, bytes)) => pressed |= message.get(..bytes).is_some_and(is_press),
                Err(rustix::io::Errno::AGAIN) => return Ok(pressed),
                // Too many events to keep: of a power button's there are few.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => {}
                Err(error) => return Err(error).of("recv", WHAT),
            }
        }
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The request for what the controller knows of the family.
fn get_family() -> Vec<u8> {
    let name = ATTRIBUTE + FAMILY.len();
    let mut message = Vec::with_capacity(64);
    message.extend(((NLMSG + GENL + name.next_multiple_of(4)) as u32).to_ne_bytes());
    message.extend(GENL_ID_CTRL.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([CTRL_CMD_GETFAMILY, 1, 0, 0]);
    message.extend((name as u16).to_ne_bytes());
    message.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
    message.extend(FAMILY);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

/// The number of the family's first multicast group, from the controller's answer.
fn group(message: &[u8]) -> Option<u32> {
    let is_answer = message.get(4..6)? == GENL_ID_CTRL.to_ne_bytes();
    let attributes = message.get(NLMSG + GENL..).filter(|_| is_answer)?;
    let groups = attribute(attributes, CTRL_ATTR_MCAST_GROUPS)?;
    // The groups are numbered from 1 where attributes have their kind.
    let id = attribute(attribute(groups, 1)?, CTRL_ATTR_MCAST_GRP_ID)?;
    Some(u32::from_ne_bytes(id.get(..4)?.try_into().ok()?))
}

/// The content of the first attribute of a kind.
fn attribute(mut rest: &[u8], kind: u16) -> Option<&[u8]> {
    /// Kind without the flags for "nested" and "network byte order" (`NLA_TYPE_MASK`).
    const KIND: u16 = 0x3fff;
    loop {
        let bytes = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let found = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & KIND;
        let content = rest.get(ATTRIBUTE..bytes)?;
        if found == kind {
            return Some(content);
        }
        rest = rest.get(bytes.next_multiple_of(4)..)?;
    }
}

fn is_press(message: &[u8]) -> bool {
    message.get(NLMSG + GENL + ATTRIBUTE..).is_some_and(|event| event.starts_with(CLASS))
}

fn join(fd: &OwnedFd, group: u32) -> Result<()> {
    let size = size_of_val(&group) as libc::socklen_t;
    // SAFETY: the option takes an int, which `group` is; it lives as long as the call, and the descriptor is open.
    let code = unsafe {
        let value = (&raw const group).cast();
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, value, size)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()).of("setsockopt", WHAT) }
}

#[cfg(test)]
mod tests {
    use super::{GENL, GENL_ID_CTRL, NLMSG, attribute, get_family, group, is_press};
    use proptest::prelude::proptest;

    fn attr(kind: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + content.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_request_is_well_formed() {
        let message = get_family();
        assert_eq!(message.len(), 36);
        assert_eq!(message[..4], 36_u32.to_ne_bytes());
        assert_eq!(attribute(&message[NLMSG + GENL..], 2).unwrap(), b"acpi_event\0");
    }

    #[test]
    fn the_group_is_found_in_the_answer() {
        let one = [attr(1, b"acpi_mc_group\0"), attr(2, &7_u32.to_ne_bytes())].concat();
        let groups = attr(1 | 0x8000, &one);
        let mut message = vec![0; NLMSG + GENL];
        message[4..6].copy_from_slice(&GENL_ID_CTRL.to_ne_bytes());
        message.extend([attr(2, b"acpi_event\0"), attr(7 | 0x8000, &groups)].concat());
        assert_eq!(group(&message), Some(7));
        assert_eq!(group(&message[..40]), None);
        assert_eq!(group(&[]), None);
    }

    #[test]
    fn only_the_power_button_counts() {
        let event =
            |class: &str| [vec![0; NLMSG + GENL + 4], class.as_bytes().to_vec(), vec![0; 24]].concat();
        assert!(is_press(&event("button/power")));
        assert!(!is_press(&event("button/lid")));
        assert!(!is_press(b"button/power"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, kind: u16) {
            let _ = (group(&bytes), attribute(&bytes, kind), is_press(&bytes));
        }
    }
}
