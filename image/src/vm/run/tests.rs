use super::{Boot, Command, RunArgs, boot, disk};
use clap::Parser;
use std::path::Path;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: super::Args,
}

fn parse(words: &[&str]) -> RunArgs {
    let words = ["tatara", "run"].iter().chain(words);
    let Command::Run(args) =
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args.command;
    *args
}

fn refused(words: &[&str]) -> String {
    boot(&parse(words), Path::new("/nonexistent")).expect_err("refused").to_string()
}

#[test]
fn a_disk_is_made_with_its_size_and_then_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.img");
    let args = parse(&["--bus", "nvme", "--sector-bytes", "4096"]);
    let text = path.display().to_string();
    assert!(disk(&args, 0, &text).expect_err("missing").to_string().contains("give a size"));
    let wrong = disk(&args, 0, &format!("{text}:12G")).expect_err("no size").to_string();
    assert!(wrong.contains("`12G` is not a size"), "{wrong}");
    let made = disk(&args, 1, &format!("{text}:1MiB")).expect("made");
    assert_eq!(
        (made.path.as_path(), made.sector_bytes, made.serial.as_str()),
        (path.as_path(), 4096, "TATARA1")
    );
    assert_eq!(std::fs::metadata(&path).expect("file").len(), 1 << 20);
    disk(&args, 0, &format!("{text}:2MiB")).expect("kept");
    assert_eq!(std::fs::metadata(&path).expect("file").len(), 1 << 20);
    disk(&args, 0, &text).expect("kept");
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    assert!(refused(&["--boot", "usb"]).contains("--release DIR"));
    assert!(
        refused(&["--boot", "direct", "--release", "/nonexistent"])
            .contains("/nonexistent/vmlinuz is missing")
    );
    assert!(refused(&["--boot", "disk", "--append", "x"]).contains("--append"));
    assert!(refused(&["--boot", "disk", "--bootfile", "http://h/"]).contains("--bootfile"));
    assert!(refused(&["--boot", "pxe", "--bootfile", "http://h/", "--append", "x"]).contains("no effect"));
}

#[test]
fn arguments_for_the_kernel_go_into_a_script_of_their_own() {
    let release = tempfile::tempdir().expect("directory");
    let scratch = tempfile::tempdir().expect("directory");
    for name in ["vmlinuz", "initramfs.zst"] {
        std::fs::write(release.path().join(name), name).expect("write");
    }
    let path = release.path().display().to_string();
    let args = parse(&["--boot", "pxe", "--release", &path, "--append", "console=ttyS0 quiet"]);
    let Boot::PxeTftp { directory, script } = boot(&args, scratch.path()).expect("boot") else {
        panic!("not TFTP")
    };
    let text = std::fs::read_to_string(directory.join(script)).expect("script");
    assert!(text.contains("kernel vmlinuz initrd=initramfs.zst console=ttyS0 quiet\n"), "{text}");
    assert_eq!(std::fs::read_to_string(directory.join("initramfs.zst")).expect("link"), "initramfs.zst");
}
