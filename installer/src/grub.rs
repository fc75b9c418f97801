//! GRUB's BIOS images, patched for where they lie on a disk; what `grub-bios-setup` does, as pure functions.
//!
//! Source: GRUB 2.12, `util/setup.c` (`grub_util_bios_setup`), `include/grub/i386/pc/boot.h`, `include/grub/offsets.h`.

use tatara_spec::{Code, Fault};

/// Unit of GRUB's block lists in bytes, whatever the disk's own sector size (`GRUB_DISK_SECTOR_SIZE`).
pub(crate) const SECTOR_BYTES: usize = 512;
/// Offset in the boot sector of the core image's first sector, u64 little-endian (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`).
const KERNEL_SECTOR: usize = 0x5c;
/// Offset of the BIOS drive to load from; 0xff is the one booted from (`GRUB_BOOT_MACHINE_BOOT_DRIVE`).
const BOOT_DRIVE: usize = 0x64;
/// Offset of a two-byte jump over the work-around for firmware that passes a floppy's drive number although it boots
/// a hard disk (`GRUB_BOOT_MACHINE_DRIVE_CHECK`). `grub-bios-setup` enables it on every disk that is no floppy.
const DRIVE_CHECK: usize = 0x66;
/// x86 `nop`.
const NOP: u8 = 0x90;
/// From here to [`MBR_KEEP_END`] the sector on the disk is kept: disk signature and partition table
/// (`GRUB_BOOT_MACHINE_WINDOWS_NT_MAGIC`).
const MBR_KEEP_START: usize = 0x1b8;
/// `GRUB_BOOT_MACHINE_PART_END`; the boot signature 55 AA follows.
const MBR_KEEP_END: usize = 0x1fe;
/// Size of one block list entry in bytes (`struct grub_boot_blocklist`): u64 start, u16 length, u16 segment.
const BLOCKLIST_BYTES: usize = 12;
/// Real-mode segment that the second sector of the core is loaded to (`GRUB_BOOT_I386_PC_KERNEL_SEG` and one sector).
const SECOND_SECTOR_SEGMENT: u16 = 0x0820;
/// Most sectors that a core may have: it is loaded below 0x78000, and unpacked from 0x9000 on.
const CORE_MAX_SECTORS: usize = (0x78000 - 0x9000) / SECTOR_BYTES;

/// The boot sector: `boot_img` with the place of the core image and what must be kept of the disk's first sector.
///
/// `mbr` is the first 512 bytes of the disk (protective MBR); `core_sector` the first 512-byte sector of the core image.
///
/// # Errors
/// [`Code::ReleaseBad`] when `boot_img` is not a GRUB boot sector.
pub(crate) fn boot_sector(
    boot_img: &[u8],
    mbr: &[u8; SECTOR_BYTES],
    core_sector: u64,
) -> Result<[u8; SECTOR_BYTES], Fault> {
    let wrong = |what: &str| Fault::new(Code::ReleaseBad, format!("GRUB's boot image {what}"));
    let mut sector: [u8; SECTOR_BYTES] = boot_img
        .try_into()
        .map_err(|_| wrong(&format!("is {} bytes long instead of {SECTOR_BYTES}", boot_img.len())))?;
    if sector[MBR_KEEP_END..] != [0x55, 0xaa] {
        return Err(wrong("lacks the boot signature 55 AA"));
    }
    // 0xeb is `jmp short`; the check is skipped by one, or has been enabled already.
    if !matches!(sector[DRIVE_CHECK], 0xeb | NOP) {
        return Err(wrong("has no drive check where GRUB 2 has it"));
    }
    sector[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&core_sector.to_le_bytes());
    sector[BOOT_DRIVE] = 0xff;
    sector[DRIVE_CHECK..DRIVE_CHECK + 2].fill(NOP);
    sector[MBR_KEEP_START..MBR_KEEP_END].copy_from_slice(&mbr[MBR_KEEP_START..MBR_KEEP_END]);
    Ok(sector)
}

/// The core image with its block list pointing at itself: it lies in one piece from `first_sector` (512 bytes each) on.
///
/// Filled up with zeros to whole sectors, at most `room_bytes` long.
///
/// # Errors
/// [`Code::ReleaseBad`] when `core_img` is no core image or too large.
pub(crate) fn core_image(core_img: &[u8], first_sector: u64, room_bytes: u64) -> Result<Vec<u8>, Fault> {
    let wrong = |what: String| Fault::new(Code::ReleaseBad, format!("GRUB's core image {what}"));
    let sectors = core_img.len().div_ceil(SECTOR_BYTES);
    if !(2..=CORE_MAX_SECTORS).contains(&sectors) || (sectors * SECTOR_BYTES) as u64 > room_bytes {
        let most = room_bytes.min((CORE_MAX_SECTORS * SECTOR_BYTES) as u64);
        return Err(wrong(format!("is {} bytes long; 513 to {most} are possible", core_img.len())));
    }
    let mut core = core_img.to_vec();
    core.resize(sectors * SECTOR_BYTES, 0);
    let terminator = SECTOR_BYTES - 2 * BLOCKLIST_BYTES;
    let entry = SECTOR_BYTES - BLOCKLIST_BYTES;
    // A second entry with a length is code or a list of several pieces: neither comes from grub-mkimage.
    if core[terminator + 8..terminator + 10] != [0, 0] {
        return Err(wrong("has a block list of more than one entry".to_owned()));
    }
    let rest = u16::try_from(sectors - 1).map_err(|_| wrong(format!("has {sectors} sectors")))?;
    core[entry..entry + 8].copy_from_slice(&(first_sector + 1).to_le_bytes());
    core[entry + 8..entry + 10].copy_from_slice(&rest.to_le_bytes());
    core[entry + 10..entry + 12].copy_from_slice(&SECOND_SECTOR_SEGMENT.to_le_bytes());
    Ok(core)
}

/// Stands where boot code will be. A BIOS jumps into every first sector that ends in 55 AA, as a partition table must, whatever is in it:
/// `int 18h` gives control back, so that the next boot device is tried (BIOS Boot Specification 1.01, section 6.7); `hlt; jmp $-1` is for
/// firmware that does not take it.
pub(crate) const NOT_BOOTABLE: &[u8] = &[0xcd, 0x18, 0xf4, 0xeb, 0xfd];

/// Whether a disk's first sector carries boot code that boots it.
#[must_use]
pub(crate) fn has_boot_code(sector: &[u8; SECTOR_BYTES]) -> bool {
    let code = &sector[..MBR_KEEP_START];
    code.strip_prefix(NOT_BOOTABLE).unwrap_or(code).iter().any(|&byte| byte != 0)
}

#[cfg(test)]
mod tests {
    use super::{NOT_BOOTABLE, SECTOR_BYTES, boot_sector, core_image, has_boot_code};

    fn boot_img() -> Vec<u8> {
        let mut img = vec![0; SECTOR_BYTES];
        img[0] = 0xeb;
        img[0x66] = 0xeb;
        img[0x67] = 0x05;
        img[0x1b8..0x1fe].fill(7);
        img[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
        img
    }

    #[test]
    fn boot_sector_keeps_the_table_and_points_at_the_core() {
        let mut mbr = [0; SECTOR_BYTES];
        mbr[0x1b8..0x1fe].fill(9);
        let sector = boot_sector(&boot_img(), &mbr, 0x0102_0304_0506).unwrap();
        assert_eq!(sector[0x5c..0x64], [6, 5, 4, 3, 2, 1, 0, 0]);
        assert_eq!(sector[0x64], 0xff);
        assert_eq!(sector[0x66..0x68], [0x90, 0x90]);
        assert_eq!(sector[0x1b8..0x1fe], [9; 0x46]);
        assert_eq!(sector[0x1fe..], [0x55, 0xaa]);
        assert!(has_boot_code(&sector));
        assert!(!has_boot_code(&mbr));
        mbr[..NOT_BOOTABLE.len()].copy_from_slice(NOT_BOOTABLE);
        assert!(!has_boot_code(&mbr));
    }

    #[test]
    fn what_is_no_boot_sector_is_refused() {
        let mbr = [0; SECTOR_BYTES];
        assert!(boot_sector(&[0; 100], &mbr, 1).is_err());
        assert!(boot_sector(&[0; SECTOR_BYTES], &mbr, 1).is_err());
        let mut no_check = boot_img();
        no_check[0x66] = 0;
        assert!(boot_sector(&no_check, &mbr, 1).is_err());
    }

    #[test]
    fn core_points_at_its_second_sector() {
        let core = core_image(&[1; 3 * SECTOR_BYTES - 5], 2048, 1 << 20);
        assert!(core.is_err(), "ones where the list must end");
        let mut img = vec![1; 3 * SECTOR_BYTES - 5];
        img[488..512].fill(0);
        let core = core_image(&img, 2048, 1 << 20).unwrap();
        assert_eq!(core.len(), 3 * SECTOR_BYTES);
        assert_eq!(core[500..508], 2049u64.to_le_bytes());
        assert_eq!(core[508..510], 2u16.to_le_bytes());
        assert_eq!(core[510..512], [0x20, 0x08]);
        assert_eq!(core[3 * SECTOR_BYTES - 5..], [0; 5]);
    }

    #[test]
    fn core_must_fit() {
        let img = vec![0; 3 * SECTOR_BYTES];
        assert!(core_image(&img, 2048, 2 * SECTOR_BYTES as u64).is_err());
        assert!(core_image(&img[..SECTOR_BYTES], 2048, 1 << 20).is_err());
        assert!(core_image(&vec![0; 500_000], 2048, 1 << 20).is_err());
    }
}
