//! boot.ipxe, with this server's kernel arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tatara_spec::release::{Digest, artifact};

/// The arguments that lead a machine here. `${mac}` is expanded by iPXE, or by the machine itself. A further argument that
/// says where the config is replaces ours.
pub(super) fn kernel_arguments(host: &str, port: u16, pin: Digest, further: &[String]) -> Vec<String> {
    let mut arguments = Vec::new();
    if !further.iter().any(|argument| argument.starts_with("tatara.config=")) {
        arguments.push(format!("tatara.config=https://{host}:{port}/nodes/${{mac}}.yaml"));
    }
    arguments.push(format!("tatara.ca=sha256:{pin}"));
    arguments.extend_from_slice(further);
    arguments
}

/// Makes boot.ipxe for each place that has a kernel.
#[derive(Clone)]
pub(super) struct Script {
    dir: PathBuf,
    text: Arc<str>,
}

impl Script {
    pub(super) fn new(dir: &Path, kernel_arguments: &[String]) -> Self {
        let (kernel, initramfs) = (artifact::KERNEL, artifact::INITRAMFS);
        let arguments = kernel_arguments.join(" ");
        // Paths are relative to the script's own URL. The DHCP line is for iPXE that was started by firmware which kept
        // its lease to itself; `initrd=` is how a kernel under UEFI finds it.
        let text = format!(
            "#!ipxe\nisset ${{net0/ip}} || isset ${{ip}} || dhcp\n\
             kernel {kernel} initrd={initramfs} {arguments}\ninitrd {initramfs}\nboot\n"
        );
        Self { dir: dir.to_owned(), text: text.into() }
    }

    /// The script for a request's path, `boot.ipxe` or `RELEASE/boot.ipxe` (or `autoexec.ipxe`, which iPXE looks for beside
    /// itself), when a kernel is beside it.
    pub(super) fn for_path(&self, path: &str) -> Option<String> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let asked = matches!(name, "boot.ipxe" | "autoexec.ipxe") && !parent.contains('/');
        (asked && self.dir.join(parent).join(artifact::KERNEL).is_file()).then(|| self.text.to_string())
    }
}
