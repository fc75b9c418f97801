//! Steps: what is wanted of this node — its config, its release — fetched, or as accepted before.

use crate::machine::Machine;
use crate::network::online;
use reqwest::Url;
use std::path::Path;
use tatara_http::genuine::{self, SshKeys};
use tatara_init::net::Link;
use tatara_installer::state::StateMount;
use tatara_spec::cmdline::Placeholders;
use tatara_spec::config::{self, NodeConfig};
use tatara_spec::layout::state;
use tatara_spec::plan::{Content, Desired, Disk};
use tatara_spec::record::InstallRecord;
use tatara_spec::release::Release;
use tatara_spec::{Code, Fault, redact};

/// Fetched keys of all users, as JSON.
const KEYS_LIMIT: u64 = 16 << 20;

/// How what is wanted came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The node accepted it before.
    Accepted,
    /// The node fetched it while it ran.
    Staged,
    /// It was fetched at this boot.
    Fetched,
}

/// The node's config with what belongs to it.
pub(crate) struct Wanted {
    pub(crate) source: Source,
    pub(crate) config: NodeConfig,
    /// The file as fetched.
    pub(crate) bytes: Vec<u8>,
    /// Where it was fetched from, when it was.
    pub(crate) from: Option<Url>,
    /// Fetched SSH keys: URL to keys.
    pub(crate) keys: SshKeys,
    /// The release, when it was fetched.
    pub(crate) release: Option<FetchedRelease>,
}

/// A verified manifest, and where its files are.
pub(crate) struct FetchedRelease {
    pub(crate) manifest: Release,
    pub(crate) url: Url,
}

/// A config, and where it came from.
pub(crate) struct FetchedConfig {
    config: NodeConfig,
    bytes: Vec<u8>,
    url: Url,
}

impl Wanted {
    /// As `plan()` wants it.
    pub(crate) fn desired(&self) -> Option<Desired<'_>> {
        let release = self.release.as_ref().map(|release| release.manifest.id.as_str());
        Some(Desired { config: &self.config, release })
    }
}

/// The config that the node accepted last; `None` when there is no disk of ours, or no telling which one is this node's.
pub(crate) fn accepted(disks: &[Disk]) -> Result<Option<Wanted>, Fault> {
    newest_install(disks).map(accepted_on).transpose()
}

/// The disk of this node, as far as that can be told without a config.
///
/// A node that moved to a new disk has two of the same name; the newer install counts, and `plan()` finds its disk by its selector.
pub(crate) fn newest_install(disks: &[Disk]) -> Option<&Disk> {
    let mut installed: Vec<(&InstallRecord, &Disk)> = disks
        .iter()
        .filter_map(|disk| match &disk.content {
            Content::Installed(installed) => Some((&installed.record, disk)),
            _ => None,
        })
        .collect();
    let age = |record: &InstallRecord| (record.generation, record.serial);
    installed.sort_by_key(|(record, _)| age(record));
    match installed.as_slice() {
        [] => None,
        [.., (older, _), (newest, _)] if older.node != newest.node || age(older) == age(newest) => None,
        [.., (_, disk)] => Some(disk),
    }
}

/// The config that was accepted last on one disk.
pub(crate) fn accepted_on(disk: &Disk) -> Result<Wanted, Fault> {
    let mount = StateMount::mount_to_read(&disk.path)?;
    let missing =
        || Fault::new(Code::StateMount, format!("the accepted config is missing from {}", disk.path));
    let bytes = mount.read(state::CONFIG, config::SIZE_MAX_BYTES as u64)?.ok_or_else(missing)?;
    let keys = keys_on(&mount)?;
    let config = parse("accepted config", &bytes)?;
    Ok(Wanted { source: Source::Accepted, config, bytes, from: None, keys, release: None })
}

/// The fetched SSH keys that a state partition has.
pub(crate) fn keys_on(mount: &StateMount) -> Result<SshKeys, Fault> {
    match mount.read(state::KEYS, KEYS_LIMIT)? {
        Some(json) => serde_json::from_slice(&json)
            .map_err(|e| Fault::caused(Code::StateMount, format!("{} is damaged", state::KEYS), e)),
        None => Ok(SshKeys::new()),
    }
}

pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<NodeConfig, Fault> {
    config::parse(name, bytes).map_err(|diagnostics| config::to_fault(&diagnostics))
}

/// Step: the config, from the first link whose way leads to the server.
pub(crate) fn fetch_config(m: &mut Machine) -> Result<(FetchedConfig, String), Fault> {
    let no_url = || Fault::new(Code::CmdlineBad, "the kernel argument `tatara.config=URL` is missing");
    let template = m.line.config_url.clone().ok_or_else(no_url)?;
    let mut links = online(m)?.network.links();
    // The link in use goes first: it has worked before.
    links.sort_by_key(|link| Some(&link.name) != m.online.as_ref().map(|online| &online.link.name));
    let several = links.len() > 1;
    let mut failure = Fault::new(Code::NetNoLink, "no link has an address");
    for link in links {
        match fetch_over(m, link, &template) {
            Ok(fetched) => {
                m.report_url = fetched.config.report.as_ref().map(|report| report.url.clone());
                let detail = format!(
                    "url={} serial={}",
                    redact::url(fetched.url.as_str()),
                    fetched.config.metadata.serial
                );
                return Ok((fetched, detail));
            }
            Err(fault) if is_final(fault.code) => return Err(fault),
            Err(fault) => {
                // Only one of several is the failure of the step; that is told anyway.
                if several {
                    m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
                }
                if tells_more(fault.code, failure.code) {
                    failure = fault;
                }
            }
        }
    }
    Err(failure)
}

/// Whether the genuine config has been read and is refused. Anything else can be the fault of the way: `${mac}` and `${hostname}` differ
/// from link to link, and a portal or a stranger's DHCP server on one link must not keep the machine from the others.
fn is_final(code: Code) -> bool {
    matches!(code, Code::ConfigSyntax | Code::ConfigInvalid | Code::ConfigVersion)
}

/// Of several links' failures the last is told that got as far as to a server.
fn tells_more(new: Code, old: Code) -> bool {
    let reached = |code| !matches!(code, Code::NetNoLink | Code::NetConnect | Code::NetDns);
    reached(new) || !reached(old)
}

fn fetch_over(m: &mut Machine, link: Link, template: &str) -> Result<FetchedConfig, Fault> {
    let url = placeholders(&link).fill(template)?;
    if let Some(online) = &mut m.online {
        online.switch_to(link)?;
    }
    let client = online(m)?.client()?;
    let served = genuine::config(&client, &url, &m.keys).map_err(|fault| with_clock(m, fault))?;
    let name = redact::url(&url).rsplit('/').next().unwrap_or("config").to_owned();
    let config = parse(&name, &served.bytes)?;
    Ok(FetchedConfig { config, bytes: served.bytes, url: parse_url(&url)? })
}

/// A certificate's dates say nothing without what the machine's time comes from.
fn with_clock(m: &Machine, fault: Fault) -> Fault {
    match (&m.clock, fault.code) {
        (Some(source), Code::TlsTime) => {
            Fault::caused(Code::TlsTime, format!("the clock's time comes from the {source}"), fault)
        }
        _ => fault,
    }
}

pub(crate) fn parse_url(text: &str) -> Result<Url, Fault> {
    Url::parse(text)
        .map_err(|e| Fault::caused(Code::UrlBad, format!("`{}` is not a URL", redact::url(text)), e))
}

fn placeholders(link: &Link) -> Placeholders {
    let dmi = tatara_sys::dmi::read(Path::new("/sys"));
    Placeholders {
        mac: Some(link.mac.clone()),
        uuid: dmi.uuid,
        serial: dmi.serial,
        hostname: link.hostname.clone(),
    }
}

/// Step: the release manifest, and the SSH keys that the config points at.
pub(crate) fn fetch_release(m: &mut Machine, fetched: FetchedConfig) -> Result<(Wanted, String), Fault> {
    let FetchedConfig { config, bytes, url: from } = fetched;
    let client = online(m)?.client()?;
    let (manifest, url) = genuine::release(&client, &from, &config, &m.keys)?;
    let keys = genuine::ssh_keys(&client, &config)?;
    let detail = format!("id={} kernel={}", manifest.id, manifest.kernel_version);
    let release = Some(FetchedRelease { manifest, url });
    Ok((Wanted { source: Source::Fetched, config, bytes, from: Some(from), keys, release }, detail))
}
