//! `/sbin/init` of the small test payload: a boot that needs no Debian ends here. It prints one JSON object
//! with what it finds, as the line `checker: {…}` on the console, and powers the machine off.

use rustix::mount::MountFlags;
use rustix::system::RebootCommand;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Files that the test looks at, as their trimmed text, or null where there is none.
const TEXTS: [&str; 8] = [
    "/proc/cmdline",
    "/sys/devices/system/cpu/isolated",
    "/sys/devices/system/cpu/nohz_full",
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/passwd",
    "/run/tatara/boot.json",
    "/proc/self/mounts",
];

fn text(path: &str) -> Value {
    fs::read_to_string(path).map_or(Value::Null, |text| Value::from(text.trim_end()))
}

/// Mode of a file in octal, or null.
fn mode(path: &str) -> Value {
    fs::metadata(path).map_or(Value::Null, |meta| Value::from(format!("{:04o}", meta.mode() & 0o7777)))
}

/// Files below a directory that everybody can read and that hold `needle`.
fn readable_with(dir: &Path, needle: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            readable_with(&path, needle, found);
        } else if meta.is_file() && meta.mode() & 0o004 != 0 {
            let text = fs::read(&path).unwrap_or_default();
            if text.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

fn findings() -> Value {
    let texts: serde_json::Map<String, Value> =
        TEXTS.iter().map(|path| ((*path).to_owned(), text(path))).collect();
    let etc_probe = fs::write("/etc/checker-probe", "x").is_ok();
    let var_probe = fs::write("/var/checker-probe", "x").is_ok();
    let usr_probe = fs::write("/usr/checker-probe", "x").is_ok();
    let before = fs::read_to_string("/var/checker-boots").unwrap_or_default();
    let boots = before.trim().parse::<u32>().unwrap_or(0) + 1;
    let counted = fs::write("/var/checker-boots", boots.to_string()).is_ok();
    let mut leaks = Vec::new();
    for dir in ["/etc", "/run", "/var"] {
        readable_with(Path::new(dir), "s3cret-in-config", &mut leaks);
    }
    json!({
        "texts": texts,
        "etc_writable": etc_probe,
        "var_writable": var_probe && counted,
        "usr_writable": usr_probe,
        "boots": boots,
        "var_bytes": rustix::fs::statvfs("/var").map_or(0, |stat| stat.f_blocks * stat.f_frsize),
        "config_mode": mode("/var/lib/tatara/config.yaml"),
        "state_mode": mode("/var/lib/tatara"),
        "run_mode": mode("/run/tatara"),
        "boot_mode": mode("/run/tatara/boot.json"),
        "world_readable_secrets": leaks,
    })
}

fn main() {
    let line = format!("\nchecker: {}\n", findings());
    for console in ["/dev/console", "/dev/kmsg"] {
        if let Ok(mut file) = fs::OpenOptions::new().write(true).open(console) {
            // A console that cannot be written leaves the other one; the test sees which lines arrive.
            let _ = file.write_all(line.as_bytes());
        }
    }
    rustix::fs::sync();
    // As a node that is shut down: with nothing in the journal, so that tests can look into the file system. They say if it failed.
    let _ = rustix::mount::mount_remount("/var", MountFlags::RDONLY, "");
    // PID 1 must not return.
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    loop {
        std::thread::park();
    }
}
