//! Time zone and time servers.

use super::{Rendered, header, one_line, word};
use tatara_spec::Fault;
use tatara_spec::config::Time;

pub(super) fn render(time: &Time) -> Result<Vec<Rendered>, Fault> {
    let zone = time.zone.as_deref().unwrap_or("UTC");
    let inside = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !word("time.zone", zone)?.split('/').all(inside) {
        return Err(super::fault(format!(
            "time.zone: {zone:?} is not the name of a time zone, such as `Asia/Tokyo`"
        )));
    }
    let mut rendered = vec![Rendered::symlink("/etc/localtime", format!("../usr/share/zoneinfo/{zone}"))];
    if !time.servers.is_empty() {
        rendered.push(timesyncd(&time.servers)?);
    }
    Ok(rendered)
}

/// Configured servers are meant to be the only ones: the distribution's fallback pool is taken away, and the network
/// files set `UseNTP=no`. Without servers in the config, DHCP's and the fallback are used.
fn timesyncd(servers: &[String]) -> Result<Rendered, Fault> {
    let mut text = header("time.servers") + "[Time]\nNTP=";
    for (i, server) in servers.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { " " });
        text.push_str(word("time.servers", one_line("time.servers", server)?)?);
    }
    text.push_str("\nFallbackNTP=\n");
    Ok(Rendered::public("/etc/systemd/timesyncd.conf.d/10-tatara.conf", text))
}
