//! KVM or TCG: KVM only after a probe VM has really booted with it, because a /dev/kvm that is there can hang.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long the probe may take. SeaBIOS reaches a boot sector in under a second with KVM, in two without.
const DEADLINE: Duration = Duration::from_secs(5);

/// How often a child is looked at; the standard library cannot wait for one with a deadline.
const POLL: Duration = Duration::from_millis(20);

/// What the probe's boot sector writes to QEMU's isa-debug-exit device at port 0xf4.
const MARK: u8 = 0x2a;

/// isa-debug-exit ends QEMU with `(value << 1) | 1` (`hw/misc/debugexit.c`).
const EXIT_CODE: i32 = ((MARK as i32) << 1) | 1;

/// `mov al, MARK; out 0xf4, al; hlt; jmp $-1`, 16-bit code as the BIOS starts it.
const BOOT_CODE: [u8; 7] = [0xb0, MARK, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];

/// How the CPU is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// Translation.
    Tcg,
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub accel: Accel,
    /// Why, in words.
    pub reason: String,
}

/// Chooses, with a probe that is made once a boot of the host and remembered in the user's cache directory.
///
/// # Errors
/// QEMU cannot be started, or the cache cannot be written.
pub fn choose(qemu: &Path) -> Result<Choice> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Choice { accel: Accel::Tcg, reason: "there is no /dev/kvm".to_owned() });
    }
    let path = "/proc/sys/kernel/random/boot_id";
    let boot_id = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    remembered(&cache_file(), boot_id.trim(), || probe(qemu, Accel::Kvm, DEADLINE))
}

fn cache_file() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home).unwrap_or_else(std::env::temp_dir);
    cache.join("tatara/kvm-probe")
}

/// The probe's answer from the cache if it was made in this boot, else made now and remembered. A cached failure is not
/// tried again: a hanging KVM can leave a process behind that nothing ends.
fn remembered(cache: &Path, boot_id: &str, probe: impl FnOnce() -> Result<Choice>) -> Result<Choice> {
    if let Ok(text) = std::fs::read_to_string(cache) {
        let mut lines = text.lines();
        if let (Some(id), Some(accel), Some(reason)) = (lines.next(), lines.next(), lines.next())
            && id == boot_id
        {
            let accel = if accel == "kvm" { Accel::Kvm } else { Accel::Tcg };
            return Ok(Choice { accel, reason: format!("{reason} (probed before in this boot)") });
        }
    }
    let choice = probe()?;
    let name = if choice.accel == Accel::Kvm { "kvm" } else { "tcg" };
    if let Some(parent) = cache.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    std::fs::write(cache, format!("{boot_id}\n{name}\n{}\n", choice.reason))
        .with_context(|| format!("writing {}", cache.display()))?;
    Ok(choice)
}

/// Boots a boot sector that ends QEMU with a known code.
fn probe(qemu: &Path, accel: Accel, deadline: Duration) -> Result<Choice> {
    let directory = tempfile::tempdir().context("making a directory for the probe")?;
    let image = directory.path().join("probe.img");
    std::fs::write(&image, boot_sector()).with_context(|| format!("writing {}", image.display()))?;
    let (name, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        Accel::Tcg => ("tcg", "max"),
    };
    let mut child = Command::new(qemu)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "16"])
        .args(["-accel", name, "-cpu", cpu, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-drive", &format!("if=ide,format=raw,file={}", image.display())])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", qemu.display()))?;
    let tcg = |reason: String| Choice { accel: Accel::Tcg, reason };
    Ok(match wait(&mut child, deadline)? {
        Some(status) if status.code() == Some(EXIT_CODE) => {
            Choice { accel, reason: format!("a probe VM booted with {name}") }
        }
        Some(status) => tcg(format!("a probe VM with {name} failed ({status})")),
        None => {
            // A process that hangs in the kernel may not end; it is not waited for longer than this.
            child.kill().context("ending the probe VM")?;
            wait(&mut child, Duration::from_secs(1))?;
            tcg(format!("a probe VM with {name} did not boot within {} s", deadline.as_secs_f32()))
        }
    })
}

fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..BOOT_CODE.len()].copy_from_slice(&BOOT_CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// Waits until the child ends or the deadline passes.
fn wait(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        let status = child.try_wait().context("waiting for the probe VM")?;
        if status.is_some() || begin.elapsed() >= deadline {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::{Accel, Choice, probe, remembered};
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    fn script(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("qemu");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn the_boot_sector_really_boots() {
        let qemu = Path::new("qemu-system-x86_64");
        let choice = probe(qemu, Accel::Tcg, Duration::from_secs(60)).expect("probe");
        assert_eq!(choice.reason, "a probe VM booted with tcg");
    }

    #[test]
    fn a_kvm_that_hangs_or_fails_is_not_taken() {
        let directory = tempfile::tempdir().expect("directory");
        for (text, says) in
            [("exec sleep 1000", "did not boot within"), ("exit 1", "failed"), ("exit 0", "failed")]
        {
            let qemu = script(directory.path(), text);
            let choice = probe(&qemu, Accel::Kvm, Duration::from_millis(300)).expect("probe");
            assert_eq!(choice.accel, Accel::Tcg, "{text}");
            assert!(choice.reason.contains(says), "{}", choice.reason);
        }
        let qemu = script(directory.path(), "exit 85");
        let choice = probe(&qemu, Accel::Kvm, Duration::from_secs(60)).expect("probe");
        assert_eq!(choice.accel, Accel::Kvm, "{}", choice.reason);
    }

    #[test]
    fn an_answer_is_remembered_for_this_boot_only() {
        let directory = tempfile::tempdir().expect("directory");
        let cache = directory.path().join("sub/kvm-probe");
        let choice = |accel| Choice { accel, reason: "because".to_owned() };
        let first = remembered(&cache, "boot-1", || Ok(choice(Accel::Kvm))).expect("first");
        assert_eq!(first, choice(Accel::Kvm));
        let second = remembered(&cache, "boot-1", || panic!("probed again")).expect("second");
        assert_eq!(second.accel, Accel::Kvm);
        let third = remembered(&cache, "boot-2", || Ok(choice(Accel::Tcg))).expect("third");
        assert_eq!(third, choice(Accel::Tcg));
    }
}
