//! Too little memory: refused with what is there and what is needed, never a half-unpacked initramfs.

use crate::{direct, good, installs, served};
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

#[test]
#[ignore = "by hand: TATARA_MEMORY=LIST"]
fn explore() {
    let list = std::env::var("TATARA_MEMORY").expect("TATARA_MEMORY");
    for mib in list.split(',') {
        let setup = direct().memory_mib(mib.parse().expect("MiB"));
        let server = served(&setup, &good().text());
        let guest = support::guest::Guest::start(&setup, Some(&server));
        let ok = guest.reaches(
            "checker: {",
            &["state=fail", "Kernel panic", "unpacking failed"],
            std::time::Duration::from_secs(60),
        );
        println!(
            "=== {mib} MiB: {ok}\n{}",
            if ok {
                guest.console().all("lowest free").iter().map(|l| l.1.clone()).collect::<String>()
            } else {
                guest.console().tail(40)
            }
        );
    }
    let _ = (Disks::Untouched, SOON, Code::MemoryLow, Trial::new("a", "b", direct()));
    let _ = installs;
}
