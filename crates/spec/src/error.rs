//! Error codes: every failure that a person can meet, with its meaning and what to do about it.
//!
//! docs/errors.md is generated from this table; a test holds the two together.

use std::error::Error;

macro_rules! codes {
    ($($variant:ident $name:literal $meaning:literal $hint:literal;)+) => {
        /// A stable error code. Codes are never renamed or used again for something else.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// Every code, in the order of docs/errors.md.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// The code as printed, e.g. `E-NET-DHCP`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ }
            }

            /// What it means, one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning,)+ }
            }

            /// What to do, one or two sentences.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Code::$variant => $hint,)+ }
            }
        }
    };
}

codes! {
    Internal "E-INTERNAL" "A bug in tatara: a step ended in a way that it must not." "Report it with the console's text; the machine retries by itself.";
    Panic "E-PANIC" "The worker process ended without saying why." "The machine retries by itself; report the lines above.";
    Sys "E-SYS" "The kernel refused an operation that should always work." "Read the cause: it names the call, the object and the kernel's error. Old or cut-down kernels are the usual reason.";
    CmdlineBad "E-CMDLINE" "A tatara or network argument on the kernel command line is wrong." "Correct the argument in the boot script (boot.ipxe, or args.cfg on the USB stick).";
    Module "E-MODULE" "A driver could not be loaded." "Boot an initramfs that belongs to this kernel; `dmesg` lines above say what the kernel disliked.";
    NetNoLink "E-NET-LINK" "No network interface has a carrier." "Check cable and switch port. A card that the message does not list lacks its driver or firmware in the image: `zstd -dc initramfs.zst | cpio -t` lists what is there.";
    NetNoDevice "E-NET-DEVICE" "No network interface was found, or not the one asked for." "Check `ip=` for the name or MAC, and whether the driver or its firmware is in the image (`zstd -dc initramfs.zst | cpio -t`); some cards need `--component main --component non-free-firmware` and the firmware's `--package`.";
    NetDhcp "E-NET-DHCP" "No link got an address from a DHCP server." "Check the DHCP server and the VLAN of the port, or give a static address with `ip=`.";
    NetDns "E-NET-DNS" "A host name could not be resolved." "Check the name and the DNS servers that DHCP or `nameserver=` gave; an IP address in the URL avoids DNS.";
    NetConnect "E-NET-CONNECT" "The server could not be reached." "Check that the server listens on that address and port, and that routers and firewalls let it through.";
    Clock "E-CLOCK" "The clock could not be set." "Check the NTP server in `tatara.ntp=` or DHCP option 42, and the hardware clock.";
    TlsUntrusted "E-TLS-UNTRUSTED" "The server's certificate comes from no CA that this machine trusts." "Compare `tatara.ca=` with the pin that the server's operator publishes (`tatara serve` prints it); the server must send its whole chain, the CA included.";
    TlsName "E-TLS-NAME" "The server's certificate is for another name." "Use a name in the URL that the certificate holds, or issue a certificate with this name.";
    TlsTime "E-TLS-TIME" "The certificate is not valid at the time this machine believes it is." "Compare the clock and the certificate's dates in the message: set the hardware clock, name an NTP server (`tatara.ntp=`) or renew the certificate.";
    Tls "E-TLS" "The TLS connection could not be made." "TLS 1.2 or 1.3 is needed; check what the server offers.";
    TlsClient "E-TLS-CLIENT" "The server wants to know who this machine is, and does not take what it shows." "Only the server of `kubernetes.join.tokenFrom` may ask: give `kubernetes.join.identity` a certificate of a CA that it trusts, valid now. Servers of configs and releases must not ask for one.";
    HttpStatus "E-HTTP-STATUS" "The server answered with an error status." "Check the URL after its placeholders were filled in, as printed, and the server's log.";
    HttpRedirect "E-HTTP-REDIRECT" "The server redirected to a place that is not trusted." "Redirects must stay on HTTPS; put the final URL into the config.";
    HttpBody "E-HTTP-BODY" "The answer is not what was asked for: too large, cut off, or a web page." "A captive portal or a proxy may be in between; fetch the URL from another machine and compare.";
    UrlBad "E-URL" "A URL is not usable." "Use https://; http:// is taken only for files whose digest or signature is checked.";
    ConfigSyntax "E-CONFIG-SYNTAX" "The config is not valid YAML." "Run `tatara config check FILE`; it shows file, line and column.";
    ConfigInvalid "E-CONFIG-INVALID" "The config is YAML, but not a valid NodeConfig." "Run `tatara config check FILE`; it shows every fault with file, line and column.";
    ConfigVersion "E-CONFIG-VERSION" "The config's apiVersion or kind is not known to this release." "Boot a release that knows it, or write the config for `tatara.dev/v1alpha1`.";
    ConfigSignature "E-CONFIG-SIGNATURE" "The config's signature is missing or wrong." "Sign the file as served (`minisign -Sm FILE -x FILE.sig`) with the key that `tatara.key=` names, or that is built in (`--trust-key`).";
    ConfigSerial "E-CONFIG-SERIAL" "The config is older than the one this node accepted last." "Raise `metadata.serial`; a lower one is refused so that an old config cannot be replayed.";
    Staged "E-STAGED" "The config that the node fetched before its reboot is damaged; it boots with the accepted one." "The node fetches it again while it runs; `tatara-node stage` does so at once, and says what is wrong.";
    ReleaseBad "E-RELEASE" "The release manifest is not usable." "Check `install.release.url`, and that release.json was made by `tatara image build`.";
    ReleaseSignature "E-RELEASE-SIGNATURE" "The release's signature is missing or wrong." "Publish release.json.sig beside release.json, made with the key that `install.release.key` or `tatara.key=` names, or that is built in.";
    ReleaseOld "E-RELEASE-OLD" "The release is older than the config allows." "Publish a newer release at `install.release.url`, or lower `install.release.notBefore` if the older one is wanted.";
    PayloadDigest "E-PAYLOAD-DIGEST" "A file of the release is not the one that its manifest names." "Upload the release again, all files of one build; a proxy or a bad disk on the server can change bytes too.";
    PayloadShort "E-PAYLOAD-SHORT" "A file of the release ended too early." "Check its size on the server against release.json.";
    DiskNone "E-DISK-NONE" "No disk matches `install.disk`." "Compare the selector with the disks in the message; a missing disk may lack its driver, or be the USB stick booted from.";
    DiskAmbiguous "E-DISK-AMBIGUOUS" "More than one disk matches `install.disk`." "Narrow the selector with wwn, serial, model, transport or size so that one disk is left.";
    DiskSmall "E-DISK-SMALL" "The disk is too small." "Choose a larger disk; the message says how much is needed.";
    DiskForeign "E-DISK-FOREIGN" "The disk holds something that is not ours." "If it may be lost, set `install.wipe: foreign`; the message says what was found.";
    DiskOtherNode "E-DISK-OTHER-NODE" "The disk holds another node." "If the disk was moved here and that node may be lost, set `install.wipe: foreign`; if the node was renamed, give the config its old name, or wipe and install it anew.";
    Confirm "E-CONFIRM" "Nobody can confirm that the disk may be overwritten." "Attach a keyboard and name its screen or serial port with `console=`, or set `install.confirm: none`.";
    DiskChanged "E-DISK-CHANGED" "The disk is not the one any more that somebody was asked about." "Disks were changed or written while the console waited for an answer: read the plan above again, and answer again.";
    DiskRead "E-DISK-READ" "The disk could not be read." "Look at the kernel's lines about the disk; replace the disk or its cable. A message that says `install was complete` says how to go on.";
    DiskWrite "E-DISK-WRITE" "The disk could not be written." "Look at the kernel's lines about the disk; replace the disk or its cable.";
    DiskVerify "E-DISK-VERIFY" "What was read back from the disk is not what was written." "The disk lies or is broken: replace it.";
    DiskReadOnly "E-DISK-READONLY" "The disk is write-protected." "Remove the write protection or choose another disk.";
    EspFull "E-ESP-FULL" "The EFI system partition has no room for kernel and initramfs." "Reinstall the node, which makes the partition anew; the message says what was needed.";
    MemoryLow "E-MEMORY" "The machine has too little memory." "Give it the memory that the message names.";
    KexecFailed "E-KEXEC" "The node's kernel could not be started from this one." "Set `install.handover: firmware`; Secure Boot's lockdown and some firmware forbid kexec.";
    RootMount "E-ROOT-MOUNT" "The slot's root file system could not be mounted." "Reinstall the node (raise `install.generation`, boot from network or USB).";
    StateMount "E-STATE-MOUNT" "The state partition could not be mounted." "The file system may need repair; if it may be lost, raise `install.generation` and boot from network or USB.";
    RootInit "E-ROOT-INIT" "The root has no init that could be started." "The payload is not a tatara root; build it with `tatara image build`.";
    CpuList "E-CPU-LIST" "A CPU list is wrong." "Write lists as `0-3,8`; every CPU must exist on this machine.";
    CpuMask "E-CPU-MASK" "A CPU mask is wrong." "Masks are hex in groups of 8 digits with commas between them; `tuning` takes lists, never masks.";
    CpuAbsent "E-CPU-ABSENT" "`tuning` names CPUs that this machine does not have." "Compare the list with /sys/devices/system/cpu/present, or use `coresPerNumaNode`, which fits every machine.";
    CpuOffline "E-CPU-OFFLINE" "`tuning` names CPUs that are offline." "Bring the CPUs online (firmware, `maxcpus=`, `nosmt`), or leave them out.";
    CpuEmpty "E-CPU-EMPTY" "Housekeeping or isolated CPUs would be none." "Leave at least one core on each side.";
    CpuBoot "E-CPU-BOOT" "The boot CPU would be isolated." "Put it into housekeeping: the kernel never isolates it, whatever its arguments say.";
    CpuSiblings "E-CPU-SIBLINGS" "Threads of one core would be on both sides." "List all threads of a core on the same side, or use `coresPerNumaNode`.";
    CpuOverlap "E-CPU-OVERLAP" "CPUs are both in housekeeping and isolated." "Take them out of one of `tuning.housekeeping` and `tuning.isolatedCpus`.";
    CpuCover "E-CPU-COVER" "Online CPUs are neither in housekeeping nor isolated." "Leave out `tuning.isolatedCpus`: all CPUs that are not in housekeeping are isolated then.";
    CpuIsolation "E-CPU-ISOLATION" "`tuning` says too little, too much, or more than a kernel command line holds." "Correct `tuning` as the message says.";
    Render "E-RENDER" "A file of the node could not be made from its config." "The message names the file or key, and the cause: correct that key of the config, or give the node a release that has what it needs.";
    SlotFallback "E-SLOT-FALLBACK" "The slot on trial was not blessed in time; the node went back to the other one." "`tatara-node status` and the journal of the failed boots say what was not healthy.";
    Unhealthy "E-NODE-UNHEALTHY" "The node is not healthy, so its slot is not marked good." "The message names the units; `journalctl -u UNIT` says why. It is tried again as long as the node runs.";
    Pin "E-PIN" "A setting that keeps work off the isolated CPUs could not be made." "`tatara-node status` names each, `status --json` why; `no-vectors` there means that housekeeping CPUs have no interrupt vectors left: give them more cores or the NIC fewer queues.";
    KubernetesPayload "E-K8S-PAYLOAD" "The config wants Kubernetes, and the release was built without, or not with one container runtime that it can use." "Build the release with `tatara image build --profile node --kubernetes SOURCE`, or take `kubernetes` out of the config.";
    JoinApi "E-JOIN-API" "The cluster's API server does not answer, or not as one." "Check `kubernetes.endpoint`, whether DNS knows its name, the load balancer and the firewall; the node waits for it and goes on by itself.";
    JoinCa "E-JOIN-CA" "The cluster that answers has another CA than the config says: the join is refused." "Compare `kubernetes.join.caCertHashes` with the cluster's; if they should be equal, somebody else answers at the endpoint. No credential was sent.";
    JoinToken "E-JOIN-TOKEN" "The cluster does not take the join token: it is wrong, expired or erased." "Make a new one (`kubeadm token create`), put it into the config and reboot the node, which fetches it on its way down; or let `join.tokenFrom` give a fresh one.";
    JoinTokenSource "E-JOIN-TOKEN-SOURCE" "What `join.tokenFrom` answers is not a token." "The answer must be the token on a line, or JSON with the key `token`.";
    JoinIdentity "E-JOIN-IDENTITY" "Certificate and key of `join.identity` cannot be used." "The certificate must be of this key: compare `openssl x509 -noout -pubkey` and `openssl pkey -pubout`. A key that was erased after an earlier join comes again with a new config.";
    JoinName "E-JOIN-NAME" "The cluster has a Ready node of this name, on another machine." "Give this one another name, or delete that Node (`kubectl delete node NAME`); then the join goes on by itself.";
    JoinStale "E-JOIN-STALE" "The cluster still takes this machine's own last join for alive." "Nothing: the cluster notices within a minute that it is gone, and the join goes on by itself.";
    JoinOther "E-JOIN-OTHER" "The config names another cluster, or another node name, than those that the node has joined with." "Give the config back what it had, or reinstall the node (raise `install.generation` and reboot it).";
    JoinPreflight "E-JOIN-PREFLIGHT" "kubeadm's checks before the join failed." "The message names each check; the journal of tatara-join.service has kubeadm's words.";
    Join "E-JOIN" "kubeadm could not join the node." "The message has kubeadm's last words, the journal of tatara-join.service all of them; it is tried again.";
    Kubelet "E-KUBELET" "The kubelet does not become healthy." "`journalctl -u kubelet` says more; often a field of `kubernetes.kubelet` or of the cluster's KubeletConfiguration that this version does not take.";
    KubeletConfig "E-KUBELET-CONFIG" "The kubelet's configuration could not be made." "The message names the file and the cause. Of kubeadm's file: look at the cluster's ConfigMap kubelet-config (before 1.24 kubelet-config-1.NN); of ours: reboot the node, which makes it anew.";
    JoinErase "E-JOIN-ERASE" "The join's secrets could not be erased from the node's copy of the config." "The message says why; it is tried again at the next boot. Revoke the token with `kubeadm token delete`.";
    ImageRelease "E-IMAGE-RELEASE" "The config names a container image archive that the release does not have." "Correct `kubernetes.images[].release`, or build the release with `tatara image build --image FILE`.";
    ImageDigest "E-IMAGE-DIGEST" "A container image archive is not the one that the config or the release names." "Correct `kubernetes.images[].sha256` or the file on the server; one of a release must be that of the release that runs.";
    ImageImport "E-IMAGE-IMPORT" "A container image archive could not be imported." "The message has the words of containerd's or CRI-O's tools; what is half imported is taken away, and it is tried again.";
    StateFull "E-STATE-FULL" "The state partition (/var) has too little room." "The message says how much is needed and free: remove what takes the room, or reinstall to a larger disk. It is tried again, and goes on by itself.";
    CpuNoise "E-CPU-NOISE" "Isolated CPUs are disturbed more than `tuning.accept` allows, so the node does not join." "`tatara-node status` names CPU and source. Interrupts of a device: fewer queues; ticks: `tatara-node tuning verify`; gaps without interrupts: the firmware (SMIs) or a hypervisor. `systemctl restart tatara-accept` measures again.";
    DrainKubeconfig "E-DRAIN-KUBECONFIG" "The kubeconfig says of no cluster that could be asked." "Check the file that the message names, `--kubeconfig`, `--context` and `$KUBECONFIG`; `kubectl --kubeconfig FILE get nodes` must work.";
    DrainApi "E-DRAIN-API" "The cluster does not answer, or refuses what the drain needs." "The message has the cluster's words, and says where the node stays cordoned; run it again to go on. The credential must be allowed to get, list, patch and delete Nodes, list and watch pods of every namespace, list DaemonSets and PersistentVolumes, and create `pods/eviction`.";
    DrainNode "E-DRAIN-NODE" "The cluster has no Node of this name, or not the one any more that was looked at." "`kubectl get nodes` lists them; a node that was drained to its end has none any more. Where it was made anew meanwhile, look at the machine, and run it again if it shall go.";
    DrainConsent "E-DRAIN-CONSENT" "Something of the node would be lost, and nobody has agreed to that, or it was not in the plan that was shown." "The lines `BLOCKED`, or the message, name each pod and volume and the option that agrees to its loss; save what is needed, then run it again with the options. Nothing was changed, unless the message says that the node stays cordoned.";
    DrainAnswer "E-DRAIN-ANSWER" "Nobody has said yes to the plan. Nothing was changed." "Answer `y` at the terminal, or run it again with `--yes`, which does not ask.";
    DrainLeft "E-DRAIN-LEFT" "Pods are left on the node, or the Node itself is. It stays cordoned." "The message names each pod and what holds it up, often a PodDisruptionBudget. Pods that come although the node is cordoned tolerate every taint or name the node: scale down what makes them. Run the same command again to go on, or `kubectl uncordon NODE` to give it up.";
    NodeState "E-NODE-STATE" "A record of the node could not be read or written." "Run it as root on a node that tatara booted; the message names the file.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure with its code: what was found, said once; causes are linked, not repeated.
#[derive(Debug)]
pub struct Fault {
    /// The stable code.
    pub code: Code,
    /// What was being done or was found, and what was expected; no trailing full stop.
    pub message: String,
    /// The cause, if another error is behind it.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A failure without a cause of its own.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }

    /// A failure caused by another error.
    #[must_use]
    pub fn caused(
        code: Code,
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { code, message: message.into(), source: Some(source.into()) }
    }

    /// The whole chain on one line: `message: cause: cause of the cause`.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// The text of docs/errors.md.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "<!-- Generated from crates/spec/src/error.rs; `TATARA_UPDATE_DOCS=1 cargo test -p tatara-spec --test docs` writes it anew. -->\n\n\
         # Error codes\n\n\
         A failure of a boot prints its causes, one of these codes and what to do on every console, and keeps them for the\n\
         next boot; `tatara` and `tatara-node` print them on standard error. Warnings (`W-CPU-...`) are in [tuning.md](tuning.md).\n\
         Codes are never renamed and never used again for something else.\n\n\
         | code | what it means | what to do |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        // A bar would end the table's cell.
        let row = [code.name(), code.meaning(), code.hint()].map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| `{}` | {} | {} |\n", row[0], row[1], row[2]));
    }
    text
}
