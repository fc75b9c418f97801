//! The clock policy: never before the build, never before the RTC, then SNTP with a deadline.
//!
//! A machine whose clock is wrong fails TLS, so the time and where it came from are kept for messages.

use rsntp::{AsyncSntpClient, Config};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tatara_http::dns::Servers;
use tatara_http::rfc3339;
use tatara_spec::{Code, Fault};
use tokio::task::JoinSet;

/// The port of NTP servers, RFC 5905 section 7.2.
const NTP_PORT: u16 = 123;

/// A clock that is right to within this is left alone: no certificate and no log line depends on less.
const GOOD_ENOUGH: Duration = Duration::from_millis(100);

/// Where the time came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The clock as the kernel had it when we looked first: on most machines it read the RTC itself.
    Kernel,
    /// The hardware clock.
    Rtc,
    /// The time at which this release was built: the clock was before it.
    Build,
    /// An NTP server.
    Sntp(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Kernel => f.write_str("hardware clock, as the kernel read it"),
            Source::Rtc => f.write_str("hardware clock"),
            Source::Build => f.write_str("build time of the release"),
            Source::Sntp(server) => write!(f, "NTP server {server}"),
        }
    }
}

/// The clock's floor and the source of its time.
#[derive(Debug, Clone)]
pub struct Clock {
    /// No earlier time is believed, whoever says so.
    pub floor: SystemTime,
    /// What the time now on the clock came from.
    pub source: Source,
}

/// What an NTP server said.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The server as it was configured.
    pub server: String,
    /// Seconds to add to our clock.
    pub offset_s: f64,
}

/// Raises the system clock to the floor, max(build, RTC), when it is below.
///
/// `build_epoch` is in seconds since 1970; `root` is where /sys is (`/`).
///
/// # Errors
/// [`Code::Clock`] when the kernel refuses to set the clock.
pub fn raise_to_floor(build_epoch: u64, root: &Path) -> Result<Clock, Fault> {
    let build = SystemTime::UNIX_EPOCH + Duration::from_secs(build_epoch);
    let (time, clock) = decide(SystemTime::now(), read_rtc(root), build);
    if let Some(time) = time {
        set(time)?;
    }
    Ok(clock)
}

/// What the clock should be set to (`None`: it is right), and where that comes from.
fn decide(now: SystemTime, rtc: Option<SystemTime>, build: SystemTime) -> (Option<SystemTime>, Clock) {
    let (floor, source) = match rtc {
        Some(rtc) if rtc > build => (rtc, Source::Rtc),
        _ => (build, Source::Build),
    };
    if now >= floor {
        return (None, Clock { floor: build, source: Source::Kernel });
    }
    (Some(floor), Clock { floor: build, source })
}

/// The hardware clock by sysfs (kernel `Documentation/ABI/testing/sysfs-class-rtc`): seconds since 1970, UTC.
fn read_rtc(root: &Path) -> Option<SystemTime> {
    let text = std::fs::read_to_string(root.join("sys/class/rtc/rtc0/since_epoch")).ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn set(time: SystemTime) -> Result<(), Fault> {
    let fault =
        |cause| Fault::caused(Code::Clock, format!("the clock could not be set to {}", rfc3339(time)), cause);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let value = Timespec { tv_sec: seconds, tv_nsec: i64::from(since.subsec_nanos()) };
    clock_settime(ClockId::Realtime, value).map_err(|e| fault(std::io::Error::from(e)))
}

impl Clock {
    /// Asks all servers at once, sets the clock by the first good answer and returns the seconds that it was moved by.
    ///
    /// `servers` are addresses or names, from DHCP option 42 and `tatara.ntp=`. Answers before the floor are not
    /// believed. Nobody has to fail because of this: the caller warns and goes on with the clock as it is.
    ///
    /// # Errors
    /// [`Code::Clock`] with what each server did when none answered before `deadline`, or the clock could not be set.
    pub fn synchronise(
        &mut self,
        servers: &[String],
        dns: &Servers,
        deadline: Duration,
    ) -> Result<f64, Fault> {
        let measured = ask_servers(servers, dns, deadline, self.floor)?;
        if measured.offset_s.abs() > GOOD_ENOUGH.as_secs_f64() {
            set(moved(SystemTime::now(), measured.offset_s))?;
        }
        self.source = Source::Sntp(measured.server);
        Ok(measured.offset_s)
    }
}

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", rfc3339(SystemTime::now()), self.source)
    }
}

/// Asks all servers at once; the first answer that is not before `floor`. The clock stays as it is.
///
/// # Errors
/// [`Code::Clock`] with what each server did.
pub fn ask_servers(
    servers: &[String],
    dns: &Servers,
    deadline: Duration,
    floor: SystemTime,
) -> Result<Measurement, Fault> {
    block_on(measure(servers, dns, deadline, floor))
}

fn block_on<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Fault::caused(Code::Sys, "the network runtime could not be started", e))?
        .block_on(work)
}

fn moved(time: SystemTime, offset_s: f64) -> SystemTime {
    // An SNTP offset is below 2^31 s (RFC 5905, figure 3); anything else is no offset.
    let by = Duration::try_from_secs_f64(offset_s.abs()).unwrap_or_default();
    let there = if offset_s < 0.0 { time.checked_sub(by) } else { time.checked_add(by) };
    there.unwrap_or(time)
}

async fn measure(
    servers: &[String],
    dns: &Servers,
    deadline: Duration,
    floor: SystemTime,
) -> Result<Measurement, Fault> {
    if servers.is_empty() {
        return Err(Fault::new(
            Code::Clock,
            "no NTP server is known: neither DHCP nor `tatara.ntp=` named one",
        ));
    }
    let mut asked = JoinSet::new();
    for server in servers {
        asked.spawn(ask(server.clone(), dns.clone(), deadline));
    }
    let mut failures = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(measured)) if moved(SystemTime::now(), measured.offset_s) < floor => {
                let said = rfc3339(moved(SystemTime::now(), measured.offset_s));
                let floor = rfc3339(floor);
                failures.push(format!(
                    "{} says {said}, which is before this release was built ({floor})",
                    measured.server
                ));
            }
            Ok(Ok(measured)) => return Ok(measured),
            Ok(Err(text)) => failures.push(text),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(Fault::new(Code::Clock, format!("no NTP server gave the time: {}", failures.join("; "))))
}

async fn ask(server: String, dns: Servers, deadline: Duration) -> Result<Measurement, String> {
    let work = async {
        let address = address_of(&server, &dns).await?;
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let config = Config::default().bind_address(SocketAddr::new(any, 0)).timeout(deadline);
        let answer = AsyncSntpClient::with_config(config).synchronize(address).await;
        answer.map_err(|e| format!("{server}: {e}"))
    };
    match tokio::time::timeout(deadline, work).await {
        Ok(Ok(answer)) => Ok(Measurement { offset_s: answer.clock_offset().as_secs_f64(), server }),
        Ok(Err(text)) => Err(text),
        Err(_) => Err(format!("{server}: no answer in {} s", deadline.as_secs())),
    }
}

async fn address_of(server: &str, dns: &Servers) -> Result<SocketAddr, String> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let found = dns.lookup(server).await.map_err(|fault| fault.chain())?;
    let ip = found.first().ok_or_else(|| format!("{server} has no address"))?;
    Ok(SocketAddr::new(*ip, NTP_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    const BUILD: u64 = 1_760_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_floor_is_the_later_of_build_and_rtc() {
        let sane = decide(at(BUILD + 10), Some(at(BUILD + 9)), at(BUILD));
        assert_eq!((sane.0, sane.1.source), (None, Source::Kernel));
        let empty_battery = decide(at(1_300_000_000), Some(at(1_300_000_000)), at(BUILD));
        assert_eq!((empty_battery.0, empty_battery.1.source), (Some(at(BUILD)), Source::Build));
        let driver_late = decide(at(5), Some(at(BUILD + 99)), at(BUILD));
        assert_eq!((driver_late.0, driver_late.1.source), (Some(at(BUILD + 99)), Source::Rtc));
        assert_eq!(decide(at(5), None, at(BUILD)).0, Some(at(BUILD)));
    }

    #[test]
    fn the_rtc_is_read_from_sysfs() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_rtc(root.path()), None);
        std::fs::create_dir_all(root.path().join("sys/class/rtc/rtc0")).unwrap();
        std::fs::write(root.path().join("sys/class/rtc/rtc0/since_epoch"), "1760000001\n").unwrap();
        assert_eq!(read_rtc(root.path()), Some(at(1_760_000_001)));
    }

    #[test]
    fn dates_are_rfc3339() {
        assert_eq!(rfc3339(at(1_577_836_800)), "2020-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
    }

    /// An SNTP server (RFC 5905 section 7.3: mode 4, stratum 1) whose clock is `ahead_s` seconds before ours.
    fn server(ahead_s: i64) -> String {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut packet = [0; 48];
            while let Ok((48, from)) = socket.recv_from(&mut packet) {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                let ntp = u32::try_from(now.checked_add_signed(ahead_s).unwrap() + 2_208_988_800).unwrap();
                let mut answer = [0; 48];
                answer[0] = 0b00_100_100;
                answer[1] = 1;
                answer[24..32].copy_from_slice(&packet[40..48]);
                for field in [16, 32, 40] {
                    answer[field..field + 4].copy_from_slice(&ntp.to_be_bytes());
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        address
    }

    #[test]
    fn the_first_good_answer_wins() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let servers = [silent.local_addr().unwrap().to_string(), server(3600)];
        let deadline = Duration::from_secs(5);
        let measured = block_on(measure(&servers, &Servers::default(), deadline, at(BUILD))).unwrap();
        assert_eq!(measured.server, servers[1]);
        assert!((measured.offset_s - 3600.0).abs() < 2.0, "{measured:?}");
    }

    #[test]
    fn a_time_before_the_build_is_not_believed() {
        let servers = [server(-400_000_000), "no-such-server".to_owned()];
        let deadline = Duration::from_secs(5);
        let fault = block_on(measure(
            &servers,
            &Servers::default(),
            deadline,
            SystemTime::now() - Duration::from_secs(60),
        ))
        .unwrap_err();
        assert_eq!(fault.code, Code::Clock);
        assert!(fault.message.contains("before this release was built"), "{}", fault.message);
        assert!(fault.message.contains("no-such-server"), "{}", fault.message);
    }
}
