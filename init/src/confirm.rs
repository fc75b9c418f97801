//! Step: somebody at a console confirms what is to be overwritten (`install.confirm: console`).

use crate::machine::Machine;
use std::path::Path;
use std::time::{Duration, Instant};
use tatara_init::console::Answers;
use tatara_spec::plan::Disk;
use tatara_spec::{Code, Fault};

/// So often it is asked again: whoever comes later sees only what is printed later.
const REMIND: Duration = Duration::from_secs(60);

/// Waits until the name of the disk was typed twice on one console, for as long as it takes unless there is a limit. Days may pass, and the
/// name may be another disk's by then, or the disk may hold something else: that was not asked for.
pub(crate) fn disk(m: &mut Machine, disk: &Disk, within: Option<Duration>) -> Result<((), String), Fault> {
    let console = answered(m, disk, within)?;
    if m.settled_disks()?.contains(disk) {
        return Ok(((), format!("disk={} console={console}", disk.path)));
    }
    let why = format!("{} has changed since it was asked whether it may be overwritten", disk.path);
    Err(Fault::new(Code::DiskChanged, why))
}

/// The console on which it was confirmed.
fn answered(m: &Machine, disk: &Disk, within: Option<Duration>) -> Result<String, Fault> {
    let deadline = within.map(|within| Instant::now() + within);
    let name = disk.path.trim_start_matches("/dev/");
    let mut answers = Answers::open_all(Path::new("/proc"), Path::new("/dev"));
    let mut typed = Typed::default();
    m.reporter.info(&question(name));
    while !answers.is_empty() {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let why = format!("nobody has confirmed in time that {} may be overwritten", disk.path);
            return Err(Fault::new(Code::Confirm, why));
        }
        match answers.next(left.unwrap_or(REMIND).min(REMIND)) {
            None => m.reporter.info(&question(name)),
            Some((console, answer)) => match typed.take(name, &console, &answer) {
                Answer::Confirmed => return Ok(console),
                Answer::Once => m.reporter.info(&format!("type `{name}` once more to overwrite the disk")),
                Answer::Wrong => {
                    m.reporter.info(&format!("that is not `{name}`; nothing is overwritten"));
                    m.reporter.info(&question(name));
                }
            },
        }
    }
    let why =
        format!("nobody can be asked whether {} may be overwritten: no console can be typed on", disk.path);
    Err(Fault::new(Code::Confirm, why))
}

fn question(name: &str) -> String {
    format!(
        "`install.confirm` is `console`: type `{name}` and Enter, twice, to overwrite the disk as said above"
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Confirmed,
    Once,
    Wrong,
}

/// Who has typed the right name once.
#[derive(Debug, Default)]
struct Typed {
    once: Option<String>,
}

impl Typed {
    fn take(&mut self, name: &str, console: &str, answer: &str) -> Answer {
        if answer != name {
            self.once = None;
            return Answer::Wrong;
        }
        // Two people who each mean it half do not confirm.
        if self.once.replace(console.to_owned()).is_some_and(|before| before == console) {
            return Answer::Confirmed;
        }
        Answer::Once
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Typed};

    #[test]
    fn twice_on_the_same_console_and_nothing_between() {
        let mut typed = Typed::default();
        let mut take = |console, answer| typed.take("vda", console, answer);
        assert_eq!(take("tty0", "vda"), Answer::Once);
        assert_eq!(take("tty0", "vdb"), Answer::Wrong);
        assert_eq!(take("tty0", "vda"), Answer::Once);
        assert_eq!(take("ttyS0", "vda"), Answer::Once);
        assert_eq!(take("tty0", ""), Answer::Wrong);
        assert_eq!(take("ttyS0", "VDA"), Answer::Wrong);
        assert_eq!(take("ttyS0", "vda"), Answer::Once);
        assert_eq!(take("ttyS0", "vda"), Answer::Confirmed);
    }
}
