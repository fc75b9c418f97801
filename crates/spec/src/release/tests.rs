use super::{API_VERSION, Artifact, Digest, Frame, Image, KIND, Release, artifact};
use crate::error::Code;
use proptest::prelude::{prop, proptest};
use std::collections::BTreeMap;

const DIGEST: Digest = Digest([0x5a; 32]);

fn plain(bytes: u64) -> Artifact {
    Artifact { bytes, sha256: DIGEST, image: None }
}

/// An image of three frames, the last one half.
fn image() -> Artifact {
    let frame = |bytes| Frame { bytes, packed_blake3: DIGEST, raw_blake3: DIGEST };
    let image = Image {
        bytes: 20480,
        sha256: DIGEST,
        frame_bytes: 8192,
        frames: vec![frame(100), frame(200), frame(30)],
    };
    Artifact { image: Some(image), ..plain(330) }
}

fn good() -> Release {
    let mut artifacts = BTreeMap::from([
        (artifact::ROOT.to_owned(), image()),
        (artifact::STATE.to_owned(), image()),
        (artifact::GRUB_BIOS_BOOT.to_owned(), plain(512)),
    ]);
    for name in [
        artifact::KERNEL,
        artifact::INITRAMFS,
        artifact::GRUB_BIOS_CORE,
        artifact::GRUB_EFI,
        artifact::GRUB_CFG,
    ] {
        artifacts.insert(name.to_owned(), plain(1000));
    }
    let mut release = Release {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        id: String::new(),
        tatara_version: "0.1.0".to_owned(),
        build_epoch: 1_700_000_000,
        kernel_version: "6.12.107+deb13-amd64".to_owned(),
        packages: BTreeMap::from([("systemd".to_owned(), "257".to_owned())]),
        versions: Default::default(),
        kernel_config: BTreeMap::new(),
        artifacts,
    };
    release.id = release.compute_id();
    release
}

/// Parses a manifest that a good one was changed into; `id` is made to fit unless the change is about it.
fn refused(change: impl FnOnce(&mut Release)) -> String {
    let mut release = good();
    change(&mut release);
    if release.id == good().id {
        release.id = release.compute_id();
    }
    let json = serde_json::to_vec(&release).expect("JSON");
    let fault = Release::parse(&json).expect_err("refused");
    assert_eq!(fault.code, Code::ReleaseBad);
    assert_eq!(
        release.to_json().is_err(),
        release.api_version == API_VERSION,
        "the writer refuses what the reader does"
    );
    fault.chain()
}

fn root(release: &mut Release) -> &mut Image {
    let root = release.artifacts.get_mut(artifact::ROOT).expect("root");
    root.image.as_mut().expect("image")
}

#[test]
fn what_is_written_is_read() {
    let text = good().to_json().expect("JSON");
    assert_eq!(Release::parse(text.as_bytes()).expect("manifest"), good());
    let newer = text.replacen('{', "{ \"laterKey\": [1, 2],", 1);
    assert_eq!(Release::parse(newer.as_bytes()).expect("unknown keys are ignored"), good());
}

#[test]
fn the_id_is_what_sha256sum_says() {
    let mut release = good();
    release.artifacts.retain(|name, _| name == artifact::KERNEL);
    // printf '5a…5a  vmlinuz\n' | sha256sum
    let mut hash = <sha2::Sha256 as sha2::Digest>::new();
    sha2::Digest::update(&mut hash, format!("{}  vmlinuz\n", "5a".repeat(32)));
    let whole = Digest(sha2::Digest::finalize(hash).into()).to_string();
    assert_eq!(release.compute_id(), whole[..16]);
}

/// Digests of another kind would look like a damaged release; their keys have other names.
#[test]
fn a_release_whose_frames_have_other_digests_is_refused_by_name() {
    let json = good().to_json().unwrap();
    for key in ["packedBlake3", "rawBlake3"] {
        let older = json.replace(key, key.trim_end_matches("Blake3"));
        let fault = Release::parse(older.as_bytes()).unwrap_err();
        assert_eq!(fault.code, Code::ReleaseBad);
        assert!(fault.chain().contains(&format!("missing field `{key}`")), "{}", fault.chain());
    }
}

#[test]
fn each_lie_is_refused() {
    type Change = Box<dyn FnOnce(&mut Release)>;
    let cases: Vec<(&str, Change)> = vec![
        ("expected `tatara.dev/v1alpha1`", Box::new(|r| r.api_version = "tatara.dev/v2".to_owned())),
        ("does not belong", Box::new(|r| r.id = "0123456789abcdef".to_owned())),
        ("no artifact `vmlinuz`", Box::new(|r| drop(r.artifacts.remove(artifact::KERNEL)))),
        ("artifact name", Box::new(|r| drop(r.artifacts.insert("../x".to_owned(), plain(1))))),
        ("artifact name", Box::new(|r| drop(r.artifacts.insert(".hidden".to_owned(), plain(1))))),
        (
            "two container runtimes",
            Box::new(|r| {
                (r.versions.containerd, r.versions.crio) = (Some("2.1".to_owned()), Some("1.34".to_owned()));
            }),
        ),
        ("it is empty", Box::new(|r| drop(r.artifacts.insert("x".to_owned(), plain(0))))),
        (
            "not described as an image",
            Box::new(|r| drop(r.artifacts.insert(artifact::ROOT.to_owned(), plain(9)))),
        ),
        ("frames of 8191 bytes", Box::new(|r| root(r).frame_bytes = 8191)),
        ("frames of 0 bytes", Box::new(|r| root(r).frame_bytes = 0)),
        ("make 5", Box::new(|r| root(r).frame_bytes = 4096)),
        ("multiple of 4096", Box::new(|r| root(r).bytes = 20481)),
        ("add up to 331 bytes", Box::new(|r| root(r).frames[0].bytes = 101)),
        ("more than 2^64", Box::new(|r| root(r).frames[0].bytes = u64::MAX)),
        ("frame 1 has 0 packed", Box::new(|r| (root(r).frames[1].bytes, root(r).frames[0].bytes) = (0, 300))),
        (
            "a boot sector has 512",
            Box::new(|r| drop(r.artifacts.insert(artifact::GRUB_BIOS_BOOT.to_owned(), plain(513)))),
        ),
        (
            "a slot has room",
            Box::new(|r| drop(r.artifacts.insert(artifact::KERNEL.to_owned(), plain(1 << 30)))),
        ),
        (
            "its partition has",
            Box::new(|r| drop(r.artifacts.insert(artifact::GRUB_BIOS_CORE.to_owned(), plain(1 << 21)))),
        ),
    ];
    for (says, change) in cases {
        let message = refused(change);
        assert!(message.contains(says), "expected `{says}`: {message}");
    }
}

#[test]
fn an_image_larger_than_its_partition_is_refused() {
    let message = refused(|release| {
        let frame = Frame { bytes: 1, packed_blake3: DIGEST, raw_blake3: DIGEST };
        let state = release.artifacts.get_mut(artifact::STATE).expect("state");
        state.bytes = 129;
        let frame_bytes = 8 * crate::layout::MIB;
        state.image =
            Some(Image { bytes: 129 * frame_bytes, sha256: DIGEST, frame_bytes, frames: vec![frame; 129] });
    });
    assert!(message.contains("its partition has"), "{message}");
}

#[test]
fn what_is_no_manifest() {
    for json in ["", "{}", "[1]", "<html>", "{\"apiVersion\":\"tatara.dev/v1alpha1\",\"kind\":\"Release\"}"] {
        assert_eq!(Release::parse(json.as_bytes()).expect_err(json).code, Code::ReleaseBad);
    }
    let huge = vec![b' '; super::MANIFEST_MAX_BYTES + 1];
    assert!(Release::parse(&huge).expect_err("too large").message.contains("at most"));
}

proptest! {
    #[test]
    fn a_digest_round_trips(bytes: [u8; 32]) {
        assert_eq!(Digest(bytes).to_string().parse(), Ok(Digest(bytes)));
    }

    #[test]
    fn parse_never_panics(bytes in prop::collection::vec(prop::num::u8::ANY, 0..200), frame_bytes: u64, size: u64, packed: u64) {
        let _ = Release::parse(&bytes);
        let mut release = good();
        root(&mut release).frame_bytes = frame_bytes;
        root(&mut release).bytes = size;
        root(&mut release).frames[2].bytes = packed;
        let _ = Release::parse(&serde_json::to_vec(&release).expect("JSON"));
    }
}

#[test]
fn a_release_is_refused_only_when_it_is_older_than_allowed() {
    let release = Release { build_epoch: 1_000_000_000, ..good() };
    for allowed in [None, Some("2001-09-09T01:46:40Z"), Some("1970-01-01T00:00:00Z")] {
        assert!(release.check_age(allowed).is_ok(), "{allowed:?}");
    }
    let fault = release.check_age(Some("2001-09-09T01:46:41Z")).unwrap_err();
    assert_eq!(fault.code, Code::ReleaseOld);
    assert!(fault.message.contains("dated 2001-09-09T01:46:40Z"), "{}", fault.message);
    assert_eq!(release.check_age(Some("soon")).unwrap_err().code, Code::ConfigInvalid);
    // A date that cannot be written is no reason to panic.
    assert!(Release { build_epoch: u64::MAX, ..good() }.check_age(Some("2001-09-09T01:46:41Z")).is_ok());
}
