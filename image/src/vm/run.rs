//! The command line of `tatara vm`.

use super::{Boot, Bus, Disk, Firmware, Forward, Machine, Nic, NicModel, Qmp, accel, firmware};
use crate::signals::Signals;
use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tatara_spec::size;

const QEMU: &str = "qemu-system-x86_64";

/// Machines in QEMU.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs one, its serial port on this terminal; ctrl-C ends it.
    Run(Box<RunArgs>),
}

/// A machine.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// What runs first.
    #[arg(long, value_enum, default_value = "uefi")]
    firmware: Firmware,
    /// What the firmware boots first.
    #[arg(long, value_enum, default_value = "disk")]
    boot: BootFrom,
    /// A raw disk image; made, without occupying space, when it is not there and a size is given. Can be repeated.
    #[arg(long = "disk", value_name = "FILE[:SIZE]")]
    disks: Vec<String>,
    /// Where the disks are attached.
    #[arg(long, value_enum, default_value = "virtio-blk")]
    bus: Bus,
    /// Sector size of the disks in bytes.
    #[arg(long, default_value = "512", value_parser = sector_bytes)]
    sector_bytes: u32,
    /// Directory of a release, as `tatara image build` makes it; for --boot pxe, usb and direct.
    #[arg(long, value_name = "DIR")]
    release: Option<PathBuf>,
    /// iPXE script for --boot pxe, instead of the release's; the host is 10.0.2.2.
    #[arg(long, value_name = "URL")]
    bootfile: Option<String>,
    /// Kernel arguments, for --boot pxe with a release and --boot direct.
    #[arg(long, value_name = "ARGS")]
    append: Option<String>,
    /// Memory in MiB.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Virtual CPUs.
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Network card.
    #[arg(long, value_enum, default_value = "virtio")]
    nic: NicModel,
    /// MAC address of the network card.
    #[arg(long, default_value = "52:54:00:12:34:56")]
    mac: String,
    /// Port on 127.0.0.1 that leads to the machine's SSH server.
    #[arg(long, value_name = "PORT")]
    ssh_port: Option<u16>,
    /// Copy of the serial port's output.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Socket of QEMU's machine protocol.
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
    /// End when the machine reboots.
    #[arg(long)]
    no_reboot: bool,
}

/// What the firmware boots first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BootFrom {
    /// The network card, by iPXE.
    Pxe,
    /// The release's USB image.
    Usb,
    /// The first disk.
    Disk,
    /// The release's kernel and initramfs, loaded by QEMU.
    Direct,
}

/// Runs `tatara vm`. Says on standard error whether KVM is used, and why.
///
/// # Errors
/// QEMU, firmware or a file is missing, the arguments do not go together, or a signal ended it.
pub fn run(args: Args) -> Result<ExitCode> {
    let Command::Run(args) = args.command;
    let scratch = tempfile::tempdir().context("making a directory for the machine")?;
    let machine = machine(&args, scratch.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("starting the runtime")?.block_on(run_to_its_end(&machine))
}

/// A signal ends QEMU too: whoever started this command, say a CI, does not know of that process.
async fn run_to_its_end(machine: &Machine) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let mut command = tokio::process::Command::new(QEMU);
    let mut child = command
        .args(machine.arguments()?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {QEMU} (Debian package `qemu-system-x86`)"))?;
    if let (Some(socket), true) = (&machine.qmp, machine.needs_monitor()) {
        machine.release(&mut Qmp::connect(socket)?)?;
    }
    let waiting = || format!("waiting for {QEMU}");
    tokio::select! {
        status = child.wait() => {
            let code = status.with_context(waiting)?.code().and_then(|code| u8::try_from(code).ok());
            Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
        }
        signal = signals.wait() => {
            terminate(&child)?;
            child.wait().await.with_context(waiting)?;
            bail!("{signal} ended the machine")
        }
    }
}

/// Asks QEMU to end, which writes out what it still has for its disks.
fn terminate(child: &tokio::process::Child) -> Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    match pid.map(|pid| kill_process(pid, Signal::TERM)) {
        // It has ended already.
        None | Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
        Some(Err(error)) => Err(error).with_context(|| format!("ending {QEMU}")),
    }
}

/// The machine that the arguments describe; what it needs besides goes into `scratch`.
fn machine(args: &RunArgs, scratch: &Path) -> Result<Machine> {
    let mut machine = Machine::new(args.firmware, boot(args, scratch)?);
    machine.disks =
        args.disks.iter().enumerate().map(|(i, text)| disk(args, i, text)).collect::<Result<_>>()?;
    let choice = accel::choose(Path::new(QEMU))?;
    eprintln!("tatara: accelerator {:?}: {}", choice.accel, choice.reason);
    machine.accel = choice.accel;
    machine.memory_mib = args.memory;
    machine.cpus = args.cpus;
    let forwards = args.ssh_port.map(|host| Forward { host, guest: 22 }).into_iter().collect();
    machine.nics = vec![Nic { model: args.nic, mac: args.mac.clone(), link: true, tap: None, forwards }];
    machine.serial_log.clone_from(&args.log);
    machine.qmp.clone_from(&args.qmp);
    machine.no_reboot = args.no_reboot;
    if args.firmware == Firmware::Uefi {
        machine.uefi_vars = Some(variables(scratch)?);
    }
    Ok(machine)
}

fn variables(scratch: &Path) -> Result<PathBuf> {
    let (template, copy) = (firmware::ovmf_vars().path()?, scratch.join("uefi-vars.fd"));
    std::fs::copy(&template, &copy)
        .with_context(|| format!("copying {} to {}", template.display(), copy.display()))?;
    Ok(copy)
}

fn boot(args: &RunArgs, scratch: &Path) -> Result<Boot> {
    let file = |name: &str| match &args.release {
        Some(release) if release.join(name).is_file() => Ok(release.join(name)),
        Some(release) => {
            bail!("{} is missing; is that a release of `tatara image build`?", release.join(name).display())
        }
        None => bail!("this way to boot needs `--release DIR`"),
    };
    let append = args.append.clone();
    match (args.boot, append, &args.bootfile) {
        (BootFrom::Pxe, None, Some(script)) => Ok(Boot::Pxe { script: script.clone() }),
        (BootFrom::Pxe, Some(_), Some(_)) => bail!("`--append` has no effect on the script of `--bootfile`"),
        (_, _, Some(_)) => bail!("`--bootfile` goes with `--boot pxe` only"),
        (BootFrom::Pxe, None, None) => {
            let script = file("boot.ipxe")?;
            let directory = script.parent().map(Path::to_path_buf).unwrap_or_default();
            Ok(Boot::PxeTftp { directory, script: "boot.ipxe".to_owned() })
        }
        (BootFrom::Pxe, Some(append), None) => {
            tftp(&file("vmlinuz")?, &file("initramfs.zst")?, &append, scratch)
        }
        (BootFrom::Direct, append, None) => {
            let append = append.unwrap_or_else(|| "console=ttyS0".to_owned());
            Ok(Boot::Direct { kernel: file("vmlinuz")?, initrd: file("initramfs.zst")?, append })
        }
        (BootFrom::Usb | BootFrom::Disk, Some(_), None) => bail!(
            "`--append` goes with `--boot pxe` and `--boot direct`; a stick has its arguments in args.cfg, a disk in node.cfg"
        ),
        (BootFrom::Usb, None, None) => Ok(Boot::Usb { image: file("usb.img")? }),
        (BootFrom::Disk, None, None) => Ok(Boot::Disk),
    }
}

/// A directory for TFTP with a script that boots the release with other arguments.
fn tftp(kernel: &Path, initrd: &Path, append: &str, scratch: &Path) -> Result<Boot> {
    let directory = scratch.join("tftp");
    std::fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
    for file in [kernel, initrd] {
        let file = file.canonicalize().with_context(|| format!("looking up {}", file.display()))?;
        let link = directory.join(file.file_name().unwrap_or_default());
        symlink(&file, &link).with_context(|| format!("linking {} to {}", link.display(), file.display()))?;
    }
    let script = directory.join("run.ipxe");
    std::fs::write(&script, ipxe_script(append)).with_context(|| format!("writing {}", script.display()))?;
    Ok(Boot::PxeTftp { directory, script: "run.ipxe".to_owned() })
}

/// `initrd=` names the file to UEFI kernels, which iPXE hands it through a file system of its own.
fn ipxe_script(append: &str) -> String {
    format!("#!ipxe\nkernel vmlinuz initrd=initramfs.zst {append}\ninitrd initramfs.zst\nboot\n")
}

fn sector_bytes(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("sectors have 512 or 4096 bytes".to_owned()),
    }
}

/// `FILE[:SIZE]`: what follows the last colon is the size if it reads as one.
fn disk(args: &RunArgs, i: usize, text: &str) -> Result<Disk> {
    let sized = text.rsplit_once(':').and_then(|(path, size)| Some((path, size::parse(size).ok()?)));
    let path = PathBuf::from(sized.map_or(text, |(path, _)| path));
    match sized {
        _ if path.exists() => {}
        Some((_, bytes)) => std::fs::File::create_new(&path)
            .and_then(|file| file.set_len(bytes))
            .with_context(|| format!("making {} of {bytes} bytes", path.display()))?,
        None => match text.rsplit_once(':') {
            Some((path, size)) if size.starts_with(|first: char| first.is_ascii_digit()) => {
                bail!("`{size}` is not a size for {path}; write it as `20GiB`")
            }
            _ => bail!("{text} is missing; give a size, `{text}:20GiB`, to have it made"),
        },
    }
    let format = "raw".to_owned();
    Ok(Disk { path, format, bus: args.bus, sector_bytes: args.sector_bytes, serial: format!("TATARA{i}") })
}

#[cfg(test)]
mod tests;
