//! When an installed node boots although nobody gives it its config.

use super::{Origin, Request};
use crate::error::Code;
use std::time::Duration;

/// So long a machine that was booted from the network tries to get its config before it boots what it has. Longer than a switch port or
/// a server takes to come back after a power cut in the whole room, shorter than people take to come.
pub const OFFLINE_DEADLINE: Duration = Duration::from_secs(300);

/// Whether a failure says that nobody gave a config, and not that one was given and is refused: that one an operator must know of.
#[must_use]
pub fn is_unreachable(code: Code) -> bool {
    matches!(
        code,
        Code::NetNoLink
            | Code::NetNoDevice
            | Code::NetDhcp
            | Code::NetDns
            | Code::NetConnect
            | Code::Clock
            | Code::Tls
            | Code::TlsUntrusted
            | Code::TlsName
            | Code::TlsTime
            | Code::HttpStatus
            | Code::HttpRedirect
            | Code::HttpBody
    )
}

/// Whether a boot goes on with the config that was accepted before, after `waited` of tries that ended with `code`. Never when somebody
/// asked for a newer one at this boot: by `tatara.refresh`, or with a stick.
#[must_use]
pub fn may_do_without(request: &Request, code: Code, waited: Duration) -> bool {
    request.origin == Origin::Network
        && !request.refresh
        && is_unreachable(code)
        && waited >= OFFLINE_DEADLINE
}
