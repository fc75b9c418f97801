//! Texts: the kernel command line, CPU lists, the release manifest, signatures, certificates, lists of images.

use crate::check_refusal;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeSet;
use tatara_firstboot::image_index;
use tatara_http::signature::{Signed, verify};
use tatara_http::tls;
use tatara_spec::cmdline::{self, Placeholders};
use tatara_spec::cpu::{CpuSet, check_syntax};
use tatara_spec::release::Release;
use url::Url;

/// The first line is the command line; the second is a serial number, as DMI or DHCP might give it.
pub(crate) fn command_line(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (line, serial) = text.split_once('\n').unwrap_or((&text, ""));
    match cmdline::parse(line) {
        Ok(parsed) => {
            if let Ok(joined) = cmdline::join(&parsed.all) {
                let again = cmdline::parse(&joined).expect("what was parsed can be joined and parsed");
                assert_eq!(parsed, again);
            }
            assert!(cmdline::missing(&parsed, &cmdline::carried(&parsed)).is_empty());
        }
        // It may repeat the argument; the kernel has printed the whole line anyway.
        Err(fault) => assert!(fault.message.len() <= 2 * line.len() + 1024, "{fault}"),
    }
    placeholder(serial);
}

/// A placeholder's value is one segment of the path: it never changes the server, nor adds segments or a query.
fn placeholder(serial: &str) {
    let values = Placeholders { serial: Some(serial.to_owned()), ..Placeholders::default() };
    let Ok(filled) = values.fill("https://boot.example:8443/nodes/${serial}.yaml") else { return };
    let url = Url::parse(&filled).expect("a URL");
    assert_eq!((url.host_str(), url.port()), (Some("boot.example"), Some(8443)), "{filled}");
    assert_eq!(url.path_segments().map(Iterator::count), Some(2), "{filled}");
    assert_eq!((url.query(), url.fragment()), (None, None), "{filled}");
}

pub(crate) fn cpu_list(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for last in [0, 127, 8191, u32::MAX] {
        match CpuSet::parse(&text, last) {
            Ok(set) => {
                assert!(set.last().unwrap_or(0) <= last.min(8191));
                assert_eq!(CpuSet::parse(&set.to_string(), last).expect("a packed list"), set);
                let bits: u32 = set
                    .hex_mask(7)
                    .split(',')
                    .map(|group| u32::from_str_radix(group, 16).expect("hex").count_ones())
                    .sum();
                assert_eq!(bits as usize, set.0.len());
            }
            Err(fault) => assert!(fault.message.len() <= 2048, "{fault}"),
        }
    }
    let _ = check_syntax(&text);
}

pub(crate) fn release(input: &[u8]) {
    match Release::parse(input) {
        Ok(release) => {
            let printed = release.to_json().expect("what was read can be written");
            assert_eq!(Release::parse(printed.as_bytes()).expect("what was written can be read"), release);
            let plain = |name: &String| !name.contains(['/', '\\', '%', '?', '#']) && !name.starts_with('.');
            assert!(release.artifacts.keys().all(plain), "{:?}", release.artifacts.keys());
        }
        Err(fault) => assert!(fault.chain().len() <= 4096 + 4 * input.len(), "{fault}"),
    }
}

/// The key of the corpus; its secret half is lost.
const KEY: &str = "RWTWQH227CfnzmdeLzZqVKEh9psm1wD1GsL2RuaMmX7f5nej/9GGwp7F";
/// The two lines of the only signature that it ever made of [`SIGNED`].
const SIGNATURE: &str =
    "RUTWQH227CfnztPlkCfHf7RHdPGeYhMafDWXlztVqRb9MEA8gs1d7L9sBxPNO31yL1mSWC/HqKT8nyyxXbP574zVJlO5QdYOXgA=";
const GLOBAL_SIGNATURE: &str =
    "t/3cQ2yV220RwmiXbyMgLo8aywCctzpozkis2oQ0ot5+LaM/rsgthdVfXSCH/2iXvmTDKrJ0Y+Q4CxT7rL1YDg==";
const SIGNED: &[u8] = b"kind: NodeConfig\n";

/// A signature file: nothing but the one signature verifies, and of nothing but the signed bytes.
pub(crate) fn signature(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let keys = [KEY.to_owned()];
    match verify(Signed::Config, SIGNED, &text, &keys) {
        Ok(_) => assert!(text.contains(SIGNATURE) && text.contains(GLOBAL_SIGNATURE), "forged: {text}"),
        Err(fault) => check_refusal(&fault),
    }
    assert!(verify(Signed::Config, b"kind: nodeConfig\n", &text, &keys).is_err());
    // As a key.
    if let Ok(key) = std::str::from_utf8(input) {
        let _ = verify(Signed::Release, SIGNED, "untrusted comment: x\n", &[key.to_owned()]);
    }
}

/// A certificate as a server presents it, and a file of CAs.
pub(crate) fn certificate(input: &[u8]) {
    let pinned = tls::pin(&CertificateDer::from(input));
    assert_eq!(pinned, tls::pin(&CertificateDer::from(input.to_vec())));
    // The file is our own, so that its words may be repeated at length.
    if let Ok(trust) = tls::Trust::new(Vec::new(), Some(input)) {
        assert!(!trust.roots.is_empty());
        let _ = trust.client().map_err(|fault| check_refusal(&fault));
    }
}

/// The names become words of skopeo's arguments, each told from every other one.
pub(crate) fn image_index(input: &[u8]) {
    for parse in [image_index::docker, image_index::oci] {
        match parse(input) {
            Ok(images) => {
                let selectors: BTreeSet<&str> = images.iter().map(|image| image.selector.as_str()).collect();
                assert_eq!(selectors.len(), images.len(), "{images:?}");
                assert!(
                    images.iter().all(|image| image.name.contains('/') && image.name.is_ascii()),
                    "{images:?}"
                );
            }
            Err(fault) => check_refusal(&fault),
        }
    }
}
