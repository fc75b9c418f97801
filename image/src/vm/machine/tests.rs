use super::{Accel, Boot, Bus, CpuShape, Disk, Firmware, Forward, Machine, Nic, NicModel};
use std::path::PathBuf;

fn nic(link: bool) -> Nic {
    Nic {
        model: NicModel::Virtio,
        mac: "52:54:00:00:00:01".to_owned(),
        link,
        tap: None,
        forwards: vec![Forward { host: 2222, guest: 22 }],
    }
}

fn disk(bus: Bus, sector_bytes: u32) -> Disk {
    let (path, format) = (PathBuf::from("/d/a,b.img"), "raw".to_owned());
    Disk { path, format, bus, sector_bytes, serial: "S1".to_owned() }
}

/// The arguments, one option and its value a line.
fn lines(machine: &Machine) -> String {
    machine.arguments().expect("firmware").join(" ").replace(" -", "\n-")
}

#[test]
fn tcg_has_no_cmpxchg16b() {
    let text = lines(&Machine::new(Firmware::Bios, Boot::Disk));
    assert!(text.contains("\n-accel tcg,thread=multi\n-cpu max,-cx16\n"), "{text}");
    assert!(text.contains("\n-device virtio-rng-pci"), "{text}");
    assert!(!text.contains("pflash"), "{text}");
    let kvm = Machine { accel: Accel::Kvm, ..Machine::new(Firmware::Bios, Boot::Disk) };
    assert!(lines(&kvm).contains("\n-accel kvm\n-cpu host\n"));
}

#[test]
fn nodes_are_sockets_with_their_part_of_the_memory() {
    let shape = |nodes| Some(CpuShape { nodes, cores: 2, threads: 2 });
    let machine = Machine { shape: shape(2), ..Machine::new(Firmware::Bios, Boot::Disk) };
    let text = lines(&machine);
    assert!(text.contains("\n-smp cpus=8,sockets=2,cores=2,threads=2\n"), "{text}");
    assert!(
        text.contains(
            "\n-object memory-backend-ram,id=memory1,size=512M\n-numa node,nodeid=1,cpus=4-7,memdev=memory1"
        ),
        "{text}"
    );
    let machine = Machine { shape: shape(1), ..Machine::new(Firmware::Bios, Boot::Disk) };
    assert!(!lines(&machine).contains("-numa"));
}

#[test]
fn each_bus() {
    for (bus, expected) in [
        (Bus::VirtioBlk, "\n-device virtio-blk-pci,drive=disk0"),
        (Bus::Nvme, "\n-device nvme,drive=disk0"),
        (Bus::Ahci, "\n-device ich9-ahci,id=ahci0\n-device ide-hd,bus=ahci0.0,drive=disk0"),
        (Bus::VirtioScsi, "\n-device virtio-scsi-pci,id=scsi0\n-device scsi-hd,bus=scsi0.0,drive=disk0"),
    ] {
        let mut machine = Machine::new(Firmware::Bios, Boot::Disk);
        machine.disks = vec![disk(bus, 512)];
        let text = lines(&machine);
        assert!(text.contains(&format!("{expected},serial=S1,bootindex=1\n")), "{text}");
        assert!(text.contains("file=/d/a,,b.img\n"), "{text}");
    }
    let mut machine = Machine::new(Firmware::Bios, Boot::Disk);
    machine.disks = vec![disk(Bus::Nvme, 4096)];
    assert!(lines(&machine).contains(",logical_block_size=4096,physical_block_size=4096,"));
}

#[test]
fn only_the_first_card_boots_from_the_network() {
    let script = "http://10.0.2.2:8000/boot.ipxe".to_owned();
    let mut machine = Machine::new(Firmware::Uefi, Boot::Pxe { script });
    machine.nics = vec![nic(true), nic(true)];
    let text = lines(&machine);
    assert!(
        text.contains("id=net0,bootfile=http://10.0.2.2:8000/boot.ipxe,hostfwd=tcp:127.0.0.1:2222-:22\n"),
        "{text}"
    );
    assert!(text.contains(
        "netdev=net0,mac=52:54:00:00:00:01,romfile=/usr/lib/ipxe/qemu/efi-virtio.rom,bootindex=0\n"
    ));
    assert!(text.contains("netdev=net1,mac=52:54:00:00:00:01,romfile=\n"), "{text}");
    assert!(
        text.contains("if=pflash,unit=1,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd\n"),
        "{text}"
    );
}

#[test]
fn a_taps_network_says_what_is_loaded() {
    let mut machine = Machine::new(Firmware::Uefi, Boot::Network);
    machine.nics = vec![Nic { tap: Some("tap0".to_owned()), forwards: Vec::new(), ..nic(true) }];
    let text = lines(&machine);
    assert!(text.contains("-netdev tap,id=net0,ifname=tap0,script=no,downscript=no\n"), "{text}");
    assert!(text.contains(",romfile=,bootindex=0\n"), "OVMF's own PXE: {text}");
    machine.firmware = Firmware::Bios;
    let text = lines(&machine);
    assert!(text.contains(",romfile=/usr/lib/ipxe/qemu/efi-virtio.rom,bootindex=0\n"), "{text}");
}

#[test]
fn a_stick_boots_before_the_disks_and_is_not_written() {
    let mut machine = Machine::new(Firmware::Bios, Boot::Usb { image: PathBuf::from("/r/usb.img") });
    machine.disks = vec![disk(Bus::Ahci, 512)];
    let text = lines(&machine);
    assert!(text.contains("id=stick,format=raw,snapshot=on,file=/r/usb.img\n"), "{text}");
    assert!(text.contains("usb-storage,bus=usb.0,drive=stick,removable=on,bootindex=0\n"), "{text}");
}

#[test]
fn a_link_that_is_down_needs_the_monitor() {
    let mut machine = Machine::new(Firmware::Bios, Boot::Disk);
    machine.nics = vec![nic(true)];
    assert!(!machine.needs_monitor());
    assert!(!lines(&machine).contains("\n-S"));
    machine.nics.push(nic(false));
    machine.qmp = Some(PathBuf::from("/s/qmp"));
    assert!(machine.needs_monitor());
    let text = lines(&machine);
    assert!(text.contains("\n-qmp unix:/s/qmp,server=on,wait=off\n-S"), "{text}");
}
