//! What the kernel and the disk's boot loader tell.

use tatara_spec::slot::{BootEnv, GRUBENV_BYTES};
use tatara_sys::uevent::Uevent;

/// GRUB's environment block; a short input is what stands behind its first line.
pub(crate) fn grubenv(input: &[u8]) {
    let mut block = b"# GRUB Environment Block\n".to_vec();
    block.extend_from_slice(input);
    block.resize(GRUBENV_BYTES, b'#');
    for bytes in [input, &block] {
        let Ok(env) = BootEnv::parse(bytes) else { continue };
        let again = BootEnv::parse(&env.to_block()).expect("what was written can be read");
        // A request that is too long is left out whole.
        let request = again.request.clone().or(env.request.clone().filter(|text| text.len() > 400));
        assert_eq!(BootEnv { request, ..again }, env);
        let _ = (env.chosen(), env.booted(), env.fallen_back(), env.blessed(env.slot));
    }
}

pub(crate) fn uevent(input: &[u8]) {
    let Some(event) = Uevent::parse(input) else { return };
    assert!(!event.action.is_empty() && event.devpath.starts_with('/'), "{event:?}");
    let texts = [Some(event.action), Some(event.devpath), event.subsystem, event.modalias];
    assert!(texts.iter().flatten().all(|text| !text.contains('\0')), "{texts:?}");
}
