//! Whether all disks have appeared. The kernel never says so: SCSI and SATA controllers look for their disks in the background
//! (`scsi_mod.scan=async`), NVMe and USB too. What can be seen is that nothing has appeared for a while.

use super::{Class, Drivers, entries};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tatara_spec::Fault;

/// How long nothing may have appeared where a controller finds its disks by itself: `usb_storage.delay_use` is 1 s
/// (Documentation/admin-guide/kernel-parameters.txt), the link of a disk that spins up is tried again within 2 s
/// (drivers/ata/libata-eh.c), and 3 s cover both.
const QUIET: Duration = Duration::from_secs(3);

/// The same where every controller is NVMe or virtio: their disks come with the driver, at most a namespace scan later.
const QUIET_DIRECT: Duration = Duration::from_millis(500);

/// The longest wait: a RAID controller that finds a shelf disk by disk must not hold the machine for ever. A disk that comes later
/// still is seen when the next try begins.
const LIMIT: Duration = Duration::from_secs(60);

/// Below /sys: what shows that a disk, or something that may bring one, has appeared.
const PLACES: [&str; 8] = [
    "block",
    "class/scsi_host",
    "class/nvme",
    "class/mmc_host",
    "bus/scsi/devices",
    "bus/mmc/devices",
    "bus/usb/devices",
    "bus/virtio/devices",
];

/// What has appeared so far, and since when nothing new has.
#[derive(Debug)]
pub struct Settling {
    seen: BTreeSet<PathBuf>,
    quiet_since: Instant,
}

impl Settling {
    /// A first look at the devices below `sys`.
    #[must_use]
    pub fn begin(sys: &Path, now: Instant) -> Self {
        Self { seen: storage(sys), quiet_since: now }
    }

    /// Looks again; quiet begins anew when something has appeared.
    pub fn look(&mut self, sys: &Path, now: Instant) {
        let found = storage(sys);
        if !found.is_subset(&self.seen) {
            self.quiet_since = now;
        }
        self.seen = found;
    }

    /// When it will have been quiet for long enough, if nothing appears until then.
    fn settled_at(&self, quiet: Duration) -> Instant {
        self.quiet_since + quiet
    }
}

impl Drivers {
    /// Waits until no disk has appeared for [`QUIET`], or [`QUIET_DIRECT`] where that is enough, at most [`LIMIT`]; loads the
    /// drivers of what appears. Time that has passed since `settling` looked last counts: where something else was done meanwhile,
    /// nothing is waited for. Tells how long it took.
    ///
    /// # Errors
    /// As [`Drivers::wait_for`].
    pub fn settle(&self, settling: &mut Settling) -> Result<Duration, Fault> {
        let began = Instant::now();
        let limit = began + LIMIT;
        self.coldplug(Class::AnyDisk)?;
        loop {
            let now = Instant::now();
            settling.look(&self.sys, now);
            let until = settling.settled_at(self.quiet()).min(limit);
            if until <= now {
                return Ok(began.elapsed());
            }
            let seen = settling.seen.clone();
            self.wait_for(until, Class::AnyDisk, || !storage(&self.sys).is_subset(&seen))?;
        }
    }

    /// A controller that finds disks by itself asks for the longer wait.
    fn quiet(&self) -> Duration {
        let modaliases = self.modaliases(Class::AnyDisk);
        let slow = modaliases.iter().any(|modalias| !Class::Direct.wants(modalias));
        if slow { QUIET } else { QUIET_DIRECT }
    }
}

fn storage(sys: &Path) -> BTreeSet<PathBuf> {
    PLACES.iter().flat_map(|place| entries(&sys.join(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::{QUIET, QUIET_DIRECT, Settling};
    use crate::drivers::Drivers;
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn machine(modalias: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in ["modules", "sys/block/sda", "sys/bus/pci/devices/0"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        fs::write(root.path().join("modules/modules.dep"), "").unwrap();
        fs::write(root.path().join("modules/modules.alias"), "").unwrap();
        fs::write(root.path().join("sys/bus/pci/devices/0/modalias"), modalias).unwrap();
        root
    }

    fn drivers(root: &Path) -> Drivers {
        Drivers::at(&root.join("modules"), &root.join("sys"), "").unwrap()
    }

    const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\n";
    const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01\n";
    const XHCI: &str = "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30\n";

    #[test]
    fn only_controllers_that_search_by_themselves_are_waited_for_long() {
        for (modalias, wanted) in [(NVME, QUIET_DIRECT), (AHCI, QUIET), (XHCI, QUIET)] {
            assert_eq!(drivers(machine(modalias).path()).quiet(), wanted, "{modalias}");
        }
    }

    #[test]
    fn a_disk_that_appears_begins_the_wait_anew_and_one_that_goes_does_not() {
        let root = machine(AHCI);
        let sys = root.path().join("sys");
        let start = Instant::now();
        let mut settling = Settling::begin(&sys, start);
        let later = start + Duration::from_secs(2);
        settling.look(&sys, later);
        assert_eq!(settling.settled_at(QUIET), start + QUIET);
        for place in ["block/sdb", "class/scsi_host/host2", "bus/usb/devices/1-1"] {
            fs::create_dir_all(sys.join(place)).unwrap();
            settling.look(&sys, later);
            assert_eq!(settling.settled_at(QUIET), later + QUIET, "{place}");
            settling.quiet_since = start;
        }
        fs::remove_dir(sys.join("block/sdb")).unwrap();
        settling.look(&sys, later);
        assert_eq!(settling.settled_at(QUIET), start + QUIET);
    }

    /// Without it the wait would be over at once.
    #[test]
    fn a_disk_that_came_meanwhile_begins_the_wait_anew() {
        let root = machine(NVME);
        let sys = root.path().join("sys");
        let Some(earlier) = Instant::now().checked_sub(QUIET) else { return };
        let mut settling = Settling::begin(&sys, earlier);
        let late = sys.join("block/nvme1n1");
        fs::create_dir(&late).unwrap();
        let waited = drivers(root.path()).settle(&mut settling).unwrap();
        assert!(settling.seen.contains(&late));
        assert!(waited >= QUIET_DIRECT, "it was not waited for after it came: {waited:?}");
    }

    #[test]
    fn time_that_has_passed_is_not_waited_again() {
        let root = machine(AHCI);
        let Some(earlier) = Instant::now().checked_sub(QUIET) else { return };
        let mut settling = Settling::begin(&root.path().join("sys"), earlier);
        assert!(drivers(root.path()).settle(&mut settling).unwrap() < QUIET);
    }
}
