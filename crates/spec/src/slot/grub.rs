//! GRUB's scripts: the installed disk's, the USB stick's, and the fragment with a node's arguments.

use crate::error::{Code, Fault};

/// The installed disk's grub.cfg: [`super::BootEnv::chosen`] and [`super::BootEnv::booted`] in GRUB's own language.
pub const GRUB_CFG: &str = include_str!("../grub.cfg");

/// The USB stick's grub.cfg.
pub const GRUB_USB_CFG: &str = include_str!("../grub-usb.cfg");

/// The GRUB modules that the two scripts need on every platform, beside those that find their file system. `regexp` must
/// not be among them: with it GRUB takes `*` and `?` in a node's arguments for file name patterns.
pub const GRUB_MODULES: [&str; 12] = [
    "normal",
    "linux",
    "loadenv",
    "test",
    "echo",
    "sleep",
    "reboot",
    "boot",
    "fat",
    "part_gpt",
    "configfile",
    "minicmd",
];

/// The same for BIOS machines alone: disks, and the serial console.
pub const GRUB_BIOS_MODULES: [&str; 3] = ["biosdisk", "serial", "terminal"];

/// The same for UEFI machines alone: without a video driver GRUB tells the kernel of no screen, and it has no tty0.
pub const GRUB_UEFI_MODULES: [&str; 3] = ["efi_gop", "efi_uga", "video"];

/// Size of a slot's node.cfg in bytes, whatever it says, so that it is overwritten in place: a file of another size would have to be
/// made anew, and a power cut meanwhile would leave GRUB without. Room for twice the longest kernel command line, in one cluster.
pub const NODE_CFG_BYTES: usize = 4096;

/// Fills node.cfg up: GRUB passes over lines that begin with `#` (grub-core/normal/main.c, read_config_file_getline).
const FILLING: &str = "###############################################################\n";

/// Renders a slot's node.cfg, which sets `node_args` to the arguments separated by blanks, filled up to [`NODE_CFG_BYTES`].
///
/// GRUB splits the variable at blanks and puts a backslash before quotes and backslashes, which the kernel does not undo; so
/// arguments with any of these cannot be passed and are refused.
///
/// # Errors
/// [`Code::CmdlineBad`] with the argument, or when they are too many.
pub fn node_cfg(args: &[String]) -> Result<String, Fault> {
    for arg in args {
        if arg.is_empty() || !arg.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b)) {
            let why = format!(
                "kernel argument {arg:?}: GRUB can only pass printable ASCII without blanks, quotes and backslashes"
            );
            return Err(Fault::new(Code::CmdlineBad, why));
        }
    }
    // Single quotes: nothing in them has a meaning to GRUB (GRUB manual, "Shell-like scripting", Quoting).
    let mut text = format!("set node_args='{}'\n", args.join(" "));
    let room = NODE_CFG_BYTES.checked_sub(text.len()).ok_or_else(|| {
        let why =
            format!("the kernel arguments take {} bytes of node.cfg; it has {NODE_CFG_BYTES}", text.len());
        Fault::new(Code::CmdlineBad, why)
    })?;
    // The last line is the one that is cut, and it keeps its newline.
    text.push_str(&FILLING[FILLING.len() - room % FILLING.len()..]);
    text.push_str(&FILLING.repeat(room / FILLING.len()));
    Ok(text)
}
