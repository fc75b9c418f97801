//! Clocks that are wrong: what a machine makes of them, and what it says when a certificate does not fit.

use crate::direct;
use crate::site::{Site, gets_its_config, start};
use support::ntp::Ntp;
use support::pki::{Sends, VALID};
use support::trial::{Disks, Trial};
use tatara_spec::Code;

/// Years in which the server's certificate is valid: after every build of the tests, before NTP's counter wraps.
const LATER: (i32, i32) = (2034, 2036);
/// 2035-01-01T00:00:00Z.
const WITHIN_S: u64 = 2_051_222_400;

/// A machine whose clock starts at `rtc`, with a time server that is silent at first.
fn behind(rtc: &str, done: &'static str) -> (Site, Ntp, Trial) {
    let (site, ntp) = (Site::new(), Ntp::default());
    site.web.usually(site.web.pki.server("10.0.2.2", LATER, Sends::Chain));
    let mut setup = direct();
    setup.rtc = Some(rtc.to_owned());
    let setup = site.machine(&setup, &format!("tatara.ntp=10.0.2.2:{}", ntp.port));
    (site, ntp, Trial::new("clock", done, setup))
}

/// The clock is never before the release's build; the certificate here is for years after that.
#[test]
fn clock_at_2011() {
    let (_site, ntp, mut trial) = behind("2011-01-01T00:00:00", "the clock at 2011, and an NTP server");
    let guest = start(&trial);
    guest.expect("step=clock state=begin", support::trial::SOON);
    guest.expect("E-CLOCK: no NTP server gave the time", support::trial::SOON);
    trial.fails(
        &guest,
        "the clock at 2011, no NTP server answers",
        Code::TlsTime,
        &["the clock says 20", "valid from 2034-01-01T00:00:00Z", "build time of the release"],
    );
    ntp.says(WITHIN_S);
    guest.expect("state=ok", support::trial::SOON);
    let clock = guest.expect("step=clock state=ok", support::trial::SOON);
    assert!(clock.contains("2035-01-01T") && clock.contains("NTP server 10.0.2.2"), "{clock}");
    gets_its_config(trial, guest);
}

/// What machines without a battery show.
#[test]
fn clock_without_a_battery() {
    let (site, _ntp, mut trial) = behind("1970-01-01T00:00:00", "no hardware clock: 1970");
    let guest = start(&trial);
    let says = ["the clock says 20", "valid from 2034-01-01T00:00:00Z", "build time of the release"];
    trial.fails(&guest, "a clock without a battery: 1970", Code::TlsTime, &says);
    // With a certificate that is valid at the build it is no fault.
    site.web.usually(site.web.pki.server("10.0.2.2", VALID, Sends::Chain));
    guest.expect("step=config state=ok", support::trial::SOON);
    trial.ends(guest, Disks::Irrelevant);
}

/// A clock that is ahead is a clock that is wrong, and NTP sets it back.
#[test]
fn clock_ahead() {
    let (site, ntp, mut trial) = behind("2044-01-01T00:00:00", "the clock at 2044, and an NTP server");
    let guest = start(&trial);
    let says = ["the clock says 2044", "expired 2036-01-01T00:00:00Z", "hardware clock"];
    trial.fails(&guest, "the clock at 2044, no NTP server answers", Code::TlsTime, &says);
    ntp.says(WITHIN_S);
    gets_its_config(trial, guest);
    drop(site);
}
