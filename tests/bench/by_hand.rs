//! The rival of `ready`: the same Debian with the same programs, made a node by the steps that people and Ansible's roles take over SSH, in
//! their order, with two reboots. The steps follow each other without a pause, and packages, units and images are on its disk already.

use crate::tools::{Rivals, shell, timed};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use support::cluster::worker::{self, BOOT, HOST, NAME, Stage};
use support::cluster::{self, image};
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::steps::seconds;

/// Of the role: CPU 0 for the system, CPU 1 kept free, as the node's config says to ours.
const TUNED: &str =
    "isolcpus=managed_irq,1 nohz_full=1 rcu_nocbs=1 irqaffinity=0 systemd.cpu_affinity=0 skew_tick=1";

/// Moments, in seconds since power-on, and spans.
pub(crate) struct Times {
    /// `kubeadm join` begins.
    pub(crate) join: f64,
    /// It ends.
    pub(crate) joined: f64,
    /// The Node is Ready, for good.
    pub(crate) ready: f64,
    /// Images into containerd.
    pub(crate) images_s: f64,
    /// The last kernel's start to multi-user.target.
    pub(crate) last_boot_s: f64,
}

/// The installed machine: a kernel that QEMU loads, and a disk that is one file system.
pub(crate) struct ByHand {
    setup: Setup,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl ByHand {
    /// Makes its disk: Debian as `tatara image build` got it, the programs and units of Kubernetes, a network, a user.
    pub(crate) fn new(stage: &Stage, rivals: &Rivals, release: &Path) -> Result<Self> {
        let setup = worker::machine(Firmware::Uefi, Start::Given);
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let root = scratch.path().join("root");
        fs::create_dir(&root).context("cannot make the root")?;
        release::unpack_root(&root, "./usr/bin/containerd");
        let version = release::kernel_version(release);
        ensure!(root.join("usr/lib/modules").join(&version).is_dir(), "the cached root has no {version}");
        furnish(&root, stage)?;
        let disk = setup.disk_paths().swap_remove(0);
        timed(&mut shell(&format!("mkfs.ext4 -q -F -d {} {}", root.display(), disk.display())))?;
        let initrd = rivals.initramfs_tools.clone();
        ensure!(initrd.to_string_lossy().contains(&version), "{} is of another kernel", initrd.display());
        Ok(Self { setup, kernel: release.join("vmlinuz"), initrd })
    }

    /// From power-on to a node that is Ready after its second reboot.
    pub(crate) fn measure(&self, stage: &Stage) -> Result<Times> {
        let node = stage.node();
        let power_on = Instant::now();
        let guest = self.boot("");
        let _ = node.ssh(&prepare());
        let begin = Instant::now();
        let _ =
            node.ssh("for image in /srv/*.tar; do sudo ctr --namespace k8s.io images import $image; done");
        let images_s = seconds(begin, Instant::now());
        let _ = node.ssh(SHIELD);
        reboot(stage, &guest);

        let guest = self.boot(TUNED);
        let join = seconds(power_on, Instant::now());
        let _ = node.ssh(&join_command(stage));
        let joined = seconds(power_on, Instant::now());
        let _ = node.ssh("sudo systemctl enable --quiet kubelet containerd");
        let before = node.ssh("cat /proc/sys/kernel/random/boot_id");
        reboot(stage, &guest);

        let guest = self.boot(TUNED);
        let _ = node.ready(Some(before.trim()));
        let ready = seconds(power_on, Instant::now());
        let last_boot_s = node.multi_user_s();
        reboot(stage, &guest);
        Ok(Times { join, joined, ready, images_s, last_boot_s })
    }

    /// Starts it and waits until SSH answers.
    fn boot(&self, arguments: &str) -> Guest {
        let arguments = format!("root=/dev/vda rw console=ttyS0 panic=10 {arguments}");
        let guest = Guest::start(&self.setup.clone().given(&self.kernel, &self.initrd, &arguments), None);
        guest.expect(ANSWERS, BOOT);
        guest
    }
}

/// QEMU ends where the machine would go through its firmware again; what called this starts it.
fn reboot(stage: &Stage, guest: &Guest) {
    // The connection breaks off with the machine: what matters is that it ends.
    let _ = stage.key.login_at("alice", worker::ADDRESS, 22, "sudo systemctl reboot");
    guest.ended(BOOT);
}

/// Says on the console when somebody can log in: who does it by hand would try until it works.
const ANSWERS: &str = "by-hand: SSH answers";

fn answers() -> String {
    format!(
        "[Unit]\nWants=network-online.target\nAfter=network-online.target ssh.service\n\
         [Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo \"<5>{ANSWERS}\" >/dev/kmsg'\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

fn furnish(root: &Path, stage: &Stage) -> Result<()> {
    let put = |path: &str, text: &str| -> Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file below the root")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("usr/lib/systemd/system/kubelet.service", include_str!("../../image/kubernetes/kubelet.service"))?;
    put(
        "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        include_str!("../../image/kubernetes/10-kubeadm.conf"),
    )?;
    put("etc/systemd/system/answers.service", &answers())?;
    put("etc/hostname", &format!("{NAME}\n"))?;
    put("etc/hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {NAME}\n"))?;
    put("etc/systemd/network/10-dhcp.network", "[Match]\nName=en*\n[Network]\nDHCP=ipv4\n")?;
    put("etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n")?;
    put("home/alice/.ssh/authorized_keys", &format!("{}\n", stage.key.public()))?;
    let (www, programs) = (stage.server.www(), cluster::programs());
    timed(&mut shell(&format!(
        "install -m 755 {programs}/kubeadm {programs}/kubectl {programs}/kubelet {root}/usr/bin/
         cp {www}/images/*.tar {www}/release/image-*.tar {root}/srv/
         chroot {root} useradd --home-dir /home/alice --shell /bin/bash alice
         chroot {root} chown -R alice: /home/alice
         chmod -R go= {root}/home/alice/.ssh
         ssh-keygen -q -A -f {root}
         ln -sf ../run/systemd/resolve/stub-resolv.conf {root}/etc/resolv.conf
         chroot {root} systemd-machine-id-setup
         chroot {root} systemctl --quiet disable etcd
         chroot {root} systemctl --quiet enable ssh systemd-networkd systemd-resolved answers",
        programs = programs.display(),
        www = www.display(),
        root = root.display(),
    )))?;
    Ok(())
}

/// A file of root's by a here-document.
fn file(path: &str, text: &str) -> String {
    format!("sudo mkdir -p $(dirname {path})\nsudo tee {path} >/dev/null <<'END'\n{}\nEND\n", text.trim_end())
}

/// What Kubernetes asks of a machine: modules, sysctls, container runtime.
fn prepare() -> String {
    let containerd = format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{}"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
"#,
        image::PAUSE
    );
    let sysctls = "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n\
                   net.bridge.bridge-nf-call-ip6tables = 1\nvm.stat_interval = 10\nvm.swappiness = 10\n";
    [
        "set -e\n".to_owned(),
        file("/etc/modules-load.d/kubernetes.conf", "overlay\nbr_netfilter\n"),
        "sudo modprobe overlay\nsudo modprobe br_netfilter\n".to_owned(),
        file("/etc/sysctl.d/90-kubernetes.conf", sysctls),
        "sudo sysctl --quiet --load=/etc/sysctl.d/90-kubernetes.conf\n".to_owned(),
        file("/etc/containerd/config.toml", &containerd),
        "sudo systemctl restart containerd\n".to_owned(),
    ]
    .concat()
}

/// Slices on the housekeeping CPU; interrupts and workqueues are moved there at every boot.
const SHIELD: &str = r#"set -e
for unit in init.scope system.slice user.slice user-.slice; do
  sudo mkdir -p /etc/systemd/system/$unit.d
  case $unit in *.scope) section=Scope;; *) section=Slice;; esac
  printf '[%s]\nAllowedCPUs=0\n' $section | sudo tee /etc/systemd/system/$unit.d/40-cpuset.conf >/dev/null
done
sudo mkdir -p /opt/k8snodes/sbin
sudo tee /opt/k8snodes/sbin/pin-irqs.sh >/dev/null <<'END'
#!/bin/sh
for irq in /proc/irq/[0-9]*; do echo 0 > $irq/smp_affinity_list || true; done
END
sudo tee /opt/k8snodes/sbin/pin-worker-queue.sh >/dev/null <<'END'
#!/bin/sh
for queue in /sys/devices/virtual/workqueue/cpumask /sys/devices/virtual/workqueue/*/cpumask; do echo 1 > $queue || true; done
END
sudo chmod 755 /opt/k8snodes/sbin/pin-irqs.sh /opt/k8snodes/sbin/pin-worker-queue.sh
for name in pin-irqs pin-worker-queue; do
  sudo tee /etc/systemd/system/$name.service >/dev/null <<END
[Unit]
Description=$name
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/opt/k8snodes/sbin/$name.sh
[Install]
WantedBy=multi-user.target
END
done
sudo systemctl daemon-reload
sudo systemctl enable --quiet pin-irqs pin-worker-queue
"#;

/// As kubeadm's own output on the control plane says it, with what Debian's root has not and no machine here needs left out of its checks.
fn join_command(stage: &Stage) -> String {
    let (token, hash) = (&stage.token, stage.cluster.ca_hash());
    format!(
        "sudo kubeadm join {HOST}:6443 --token {token} --discovery-token-ca-cert-hash {hash} --node-name {NAME} \
         --cri-socket /run/containerd/containerd.sock --ignore-preflight-errors=SystemVerification,FileExisting-crictl"
    )
}
