//! Which modules are tried for which devices, on a made-up /sys; the kernel refuses the made-up modules, which shows that they were tried.

use super::{Class, Drivers, Trial, Waited, module_arguments};
use std::fs;
use std::path::Path;
use std::time::Instant;
use tatara_spec::Code;
use tempfile::TempDir;

const DEP: &str =
    "kernel/nvme.ko: kernel/nvme-core.ko\nkernel/nvme-core.ko:\nkernel/e1000e.ko:\nkernel/virtio_blk.ko:\n";
const ALIAS: &str = "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n\
    alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n\
    alias virtio:d00000002v* virtio_blk\n";
const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
const E1000E: &str = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";

fn machine(modaliases: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let modules = root.path().join("modules");
    fs::create_dir_all(modules.join("kernel")).unwrap();
    fs::write(modules.join("modules.dep"), DEP).unwrap();
    fs::write(modules.join("modules.alias"), ALIAS).unwrap();
    for name in ["nvme", "nvme-core", "e1000e", "virtio_blk"] {
        fs::write(modules.join(format!("kernel/{name}.ko")), "no module").unwrap();
    }
    for (number, (bus, modalias)) in modaliases.iter().enumerate() {
        let device = root.path().join(format!("sys/bus/{bus}/devices/{number}"));
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), format!("{modalias}\n")).unwrap();
    }
    root
}

fn drivers(root: &Path, cmdline: &str) -> Drivers {
    Drivers::at(&root.join("modules"), &root.join("sys"), cmdline).unwrap()
}

fn tried(drivers: &Drivers, class: Class) -> Vec<String> {
    let report = drivers.coldplug(class).unwrap();
    assert!(report.loaded.is_empty());
    report.failed.into_iter().map(|(module, _)| module).collect()
}

#[test]
fn a_class_loads_its_drivers_only_and_once() {
    let root = machine(&[("pci", NVME), ("pci", E1000E)]);
    let drivers = drivers(root.path(), "");
    assert_eq!(tried(&drivers, Class::Storage), ["nvme_core", "nvme"]);
    assert!(tried(&drivers, Class::Storage).is_empty());
    assert_eq!(tried(&drivers, Class::All), ["e1000e"]);
}

#[test]
fn loaded_and_blacklisted_modules_are_left_alone() {
    let root = machine(&[("pci", NVME), ("pci", E1000E)]);
    let state = root.path().join("sys/module/nvme_core");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("initstate"), "live\n").unwrap();
    let drivers = drivers(root.path(), "quiet modprobe.blacklist=e1000e,other");
    assert_eq!(tried(&drivers, Class::All), ["nvme"]);
}

#[test]
fn load_says_what_is_missing() {
    let root = machine(&[]);
    fs::write(root.path().join("modules/modules.builtin"), "kernel/fs/overlayfs/overlay.ko\n").unwrap();
    let drivers = drivers(root.path(), "");
    drivers.load("overlay").unwrap();
    let fault = drivers.load("fs-erofs").unwrap_err();
    assert_eq!(fault.code, Code::Module);
    assert!(fault.message.contains("`fs-erofs`"), "{}", fault.message);
    for _ in 0..2 {
        let fault = drivers.load("virtio-blk").unwrap_err();
        assert!(fault.chain().contains("virtio_blk.ko"), "also for who asks second: {}", fault.chain());
    }
}

#[test]
fn waiting_ends_when_met_and_at_the_deadline() {
    let root = machine(&[("virtio", "virtio:d00000002v00001AF4")]);
    let drivers = drivers(root.path(), "");
    assert_eq!(drivers.wait_for(Instant::now(), Class::Storage, || true).unwrap().0, Waited::Met);
    let mut asked = 0;
    let never = || {
        asked += 1;
        false
    };
    assert_eq!(drivers.wait_for(Instant::now(), Class::Storage, never).unwrap().0, Waited::Deadline);
    assert!(asked >= 2, "asked at once and once more at the deadline");
}

#[test]
fn parameters_come_from_the_command_line() {
    let (parameters, blacklist) = module_arguments(
        "console=ttyS0 nvme-core.io_timeout=30 nvme_core.multipath=N module_blacklist=a-b root=x.y",
    );
    assert_eq!(parameters["nvme_core"], "io_timeout=30 multipath=N");
    assert!(blacklist.contains("a_b"));
}

#[test]
fn a_module_that_another_thread_loads_is_waited_for() {
    let root = machine(&[]);
    let drivers = drivers(root.path(), "");
    assert!(drivers.loading().is_empty());
    assert!(drivers.claim(0), "nobody is at it");
    assert_eq!(drivers.loading(), ["nvme"]);
    let claimed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| drivers.claim(0));
        drivers.release(0, Trial::Loaded);
        waiting.join().unwrap()
    });
    assert!(!claimed, "it was tried already");
}

#[test]
fn threads_try_a_module_once() {
    let root = machine(&[("pci", NVME)]);
    let drivers = drivers(root.path(), "");
    let failed: usize = std::thread::scope(|scope| {
        let look = || drivers.coldplug(Class::Direct).unwrap().failed.len();
        let others = [scope.spawn(look), scope.spawn(look)];
        look() + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>()
    });
    assert_eq!(failed, 2, "nvme_core and nvme are refused once each");
}

#[test]
fn a_module_that_is_still_starting_is_not_there_yet() {
    let root = machine(&[("pci", E1000E)]);
    let state = root.path().join("sys/module/e1000e");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("initstate"), "coming\n").unwrap();
    assert_eq!(tried(&drivers(root.path(), ""), Class::All), ["e1000e"]);
}
