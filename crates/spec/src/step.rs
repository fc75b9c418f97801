//! The named steps of a boot. The names are the console text, the timeline and the test markers.

use serde::{Deserialize, Serialize};

/// One step of a boot, in the order in which a boot that installs goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// /proc, /sys, /dev and /run are mounted; consoles are open.
    Mounts,
    /// The kernel command line is parsed.
    CommandLine,
    /// Drivers of the storage controllers are loaded.
    Drivers,
    /// A disk of ours is looked for.
    FindDisk,
    /// Links, addresses, routes and name servers.
    Network,
    /// The clock is set from the RTC, the build time and SNTP.
    Clock,
    /// The node's config is fetched, its signature checked, parsed and validated.
    Config,
    /// The release manifest is fetched and verified.
    Release,
    /// `plan()` decides.
    Plan,
    /// Somebody at a console confirms what is overwritten.
    Confirm,
    /// The partition table is written.
    Partition,
    /// The root image is streamed to its slot.
    Payload,
    /// What was written is read back and compared.
    Verify,
    /// Kernel, initramfs and boot loader are written.
    BootLoader,
    /// The state record is written: from here on the disk is an installed one.
    Record,
    /// The node's kernel is started with the node's arguments.
    Kexec,
    /// The slot's root and the state partition are mounted.
    Root,
    /// This node's files are rendered from its config.
    Render,
    /// systemd takes over.
    SwitchRoot,
    /// On the node: the boot was found healthy and the slot marked good.
    Bless,
    /// On the node: container images of the config are imported.
    Images,
    /// On the node: the isolated CPUs were found as quiet as `tuning.accept` wants them.
    JoinAccept,
    /// On the node: the cluster's API server answers, and is the one that the config names.
    JoinApi,
    /// On the node: the token is fetched, or taken from the config.
    JoinToken,
    /// On the node: nobody else in the cluster has this node's name.
    JoinName,
    /// On the node: what an unfinished join left is taken away.
    JoinReset,
    /// On the node: kubeadm joins the cluster.
    Join,
    /// On the node: the kubelet is healthy.
    Kubelet,
    /// On the node: the join is recorded, and its secrets are erased.
    Joined,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 29] = [
        Step::Mounts,
        Step::CommandLine,
        Step::Drivers,
        Step::FindDisk,
        Step::Network,
        Step::Clock,
        Step::Config,
        Step::Release,
        Step::Plan,
        Step::Confirm,
        Step::Partition,
        Step::Payload,
        Step::Verify,
        Step::BootLoader,
        Step::Record,
        Step::Kexec,
        Step::Root,
        Step::Render,
        Step::SwitchRoot,
        Step::Bless,
        Step::Images,
        Step::JoinAccept,
        Step::JoinApi,
        Step::JoinToken,
        Step::JoinName,
        Step::JoinReset,
        Step::Join,
        Step::Kubelet,
        Step::Joined,
    ];

    /// The name on consoles and in timelines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Mounts => "mounts",
            Step::CommandLine => "command-line",
            Step::Drivers => "drivers",
            Step::FindDisk => "find-disk",
            Step::Network => "network",
            Step::Clock => "clock",
            Step::Config => "config",
            Step::Plan => "plan",
            Step::Confirm => "confirm",
            Step::Release => "release",
            Step::Partition => "partition",
            Step::Payload => "payload",
            Step::Verify => "verify",
            Step::BootLoader => "boot-loader",
            Step::Record => "record",
            Step::Kexec => "kexec",
            Step::Root => "root",
            Step::Render => "render",
            Step::SwitchRoot => "switch-root",
            Step::Bless => "bless",
            Step::Images => "images",
            Step::JoinAccept => "join-accept",
            Step::JoinApi => "join-api",
            Step::JoinToken => "join-token",
            Step::JoinName => "join-name",
            Step::JoinReset => "join-reset",
            Step::Join => "join",
            Step::Kubelet => "kubelet",
            Step::Joined => "joined",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
