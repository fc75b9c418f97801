//! Timelines of earlier boots on the state partition, `UNIXTIME-install.json` and `UNIXTIME-boot.json`.

use super::write_atomically;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tatara_spec::record::Timeline;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// Files of each kind that are kept; one is a few KiB.
const KEPT: usize = 10;

/// Keeps a timeline and drops the oldest ones of its kind; says in which file.
pub(super) fn keep(directory: &Path, timeline: &Timeline, json: &[u8]) -> Result<PathBuf, Fault> {
    let kind = kind(timeline);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let path = directory.join(format!("{now:010}-{kind}.json"));
    write_atomically(&path, json)?;
    let mut files = list(directory, kind)?;
    while files.len() > KEPT {
        let oldest = files.remove(0);
        fs::remove_file(&oldest).map_err(|error| fault("remove", &oldest, error))?;
    }
    Ok(path)
}

/// The newest timeline of an install.
pub(super) fn newest_install(directory: &Path) -> Result<Option<PathBuf>, Fault> {
    Ok(list(directory, "install")?.pop())
}

fn kind(timeline: &Timeline) -> &'static str {
    let installed = timeline.kernels.iter().flatten().any(|step| step.name == Step::Payload.name());
    if installed { "install" } else { "boot" }
}

/// Oldest first: the seconds have ten digits until the year 2286.
fn list(directory: &Path, kind: &str) -> Result<Vec<PathBuf>, Fault> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault("read", directory, error)),
    };
    let suffix = format!("-{kind}.json");
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| fault("read", directory, error))?;
        if entry.file_name().to_string_lossy().ends_with(&suffix) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn fault(operation: &str, path: &Path, error: std::io::Error) -> Fault {
    Fault::caused(Code::NodeState, format!("{operation} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::{KEPT, keep, list, newest_install};
    use tatara_spec::record::{StepTime, Timeline};
    use tatara_spec::step::Step;

    #[test]
    fn the_oldest_go_and_installs_are_kept_apart() {
        let directory = tempfile::tempdir().unwrap();
        for second in 0..KEPT + 3 {
            std::fs::write(directory.path().join(format!("{second:010}-boot.json")), "{}").unwrap();
        }
        keep(directory.path(), &Timeline::default(), b"{}").unwrap();
        let boots = list(directory.path(), "boot").unwrap();
        assert_eq!(boots.len(), KEPT);
        assert!(boots[0].ends_with("0000000004-boot.json"), "{boots:?}");

        assert_eq!(newest_install(directory.path()).unwrap(), None);
        let install = Timeline { kernels: vec![vec![StepTime::begin(Step::Payload, 1.0)]] };
        let kept = keep(directory.path(), &install, b"{}").unwrap();
        assert_eq!(newest_install(directory.path()).unwrap(), Some(kept));
        assert_eq!(list(directory.path(), "boot").unwrap().len(), KEPT);
    }
}
