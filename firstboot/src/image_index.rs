//! What images an archive has, by its own list: for a runtime whose tool brings one image at a time, by its name.
//!
//! Sources: Docker, image/spec/v1.2.md (`manifest.json`); OCI image-spec, image-layout.md and annotations.md (`index.json`);
//! containers-transports(5).

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use tatara_spec::{Code, Fault};

/// An image of an archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// Its whole name, with registry and tag: `docker.io/library/busybox:1`.
    pub name: String,
    /// How skopeo(1) tells it from the others: what comes after `TRANSPORT:FILE`.
    pub selector: String,
}

/// containerd's, written by what exports for it, and that of the OCI.
const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Of `manifest.json`.
///
/// # Errors
/// [`Code::ImageImport`] when it is not as Docker writes it.
pub fn docker(json: &[u8]) -> Result<Vec<Image>, Fault> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "RepoTags", default)]
        tags: Option<Vec<String>>,
    }
    let entries: Vec<Entry> = parse("manifest.json", json)?;
    let tags = entries.into_iter().filter_map(|entry| entry.tags).flatten();
    let images = tags.map(|tag| Ok(Image { name: whole_name(&tag)?, selector: format!(":{tag}") }));
    let images: BTreeSet<Image> = images.collect::<Result<_, Fault>>()?;
    Ok(images.into_iter().collect())
}

/// Of `index.json`.
///
/// # Errors
/// [`Code::ImageImport`] when it is not as the OCI has it, or has an image that cannot be told from another one, or only a tag instead of a name.
pub fn oci(json: &[u8]) -> Result<Vec<Image>, Fault> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let bad = |why: String| Fault::new(Code::ImageImport, format!("index.json: {why}"));
    let index: Index = parse("index.json", json)?;
    let alone = index.manifests.len() == 1;
    let (mut images, mut selectors) = (Vec::new(), BTreeSet::new());
    for annotations in index.manifests.into_iter().filter_map(|entry| entry.annotations) {
        let (full, reference) = (annotations.get(FULL_NAME), annotations.get(REF_NAME));
        let Some(name) = full.or(reference) else { continue };
        if full.is_none() && !name.contains(['/', ':']) {
            return Err(bad(format!("an image has only the tag `{}`, no name", shown(name))));
        }
        let selector = match reference {
            Some(reference) => format!(":{reference}"),
            None if alone => String::new(),
            None => return Err(bad(format!("`{}` has no `{REF_NAME}` to tell it by", shown(name)))),
        };
        if !selectors.insert(selector.clone()) {
            return Err(bad(format!("two images have the `{REF_NAME}` `{}`", shown(&selector[1..]))));
        }
        images.push(Image { name: whole_name(name)?, selector });
    }
    Ok(images)
}

fn parse<T: for<'de> Deserialize<'de>>(file: &str, json: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(json)
        .map_err(|error| Fault::caused(Code::ImageImport, format!("the archive's {file}"), error))
}

/// distribution/reference: 255 of a repository, 128 of a tag, the colon.
const NAME_MAX_BYTES: usize = 384;

/// Somebody else's text on our console.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// distribution/reference, `normalize.go`: what comes before the first slash is a registry when it looks like a host.
fn whole_name(name: &str) -> Result<String, Fault> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = format!("`{}` in the archive's list is no name of an image", shown(name));
        return Err(Fault::new(Code::ImageImport, why));
    }
    let host = |text: &str| text.contains(['.', ':']) || text == "localhost";
    let mut whole = match name.split_once('/') {
        Some((first, _)) if host(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let last = whole.rsplit('/').next().unwrap_or_default();
    if !last.contains([':', '@']) {
        whole.push_str(":latest");
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::{docker, oci, whole_name};
    use tatara_spec::Code;

    #[test]
    fn names_are_made_whole_as_every_runtime_does() {
        for (short, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1", "docker.io/library/busybox:1"),
            ("me/tool:2", "docker.io/me/tool:2"),
            ("localhost/tool", "localhost/tool:latest"),
            ("reg.example:5000/a/b:3", "reg.example:5000/a/b:3"),
            ("reg.example/a@sha256:0", "reg.example/a@sha256:0"),
        ] {
            assert_eq!(whole_name(short).unwrap(), whole);
        }
        for wrong in ["", "a b:1", "a\u{1b}[2J", "é:1"] {
            assert_eq!(whole_name(wrong).unwrap_err().code, Code::ImageImport, "{wrong:?}");
        }
    }

    #[test]
    fn a_list_of_dockers_has_a_name_a_tag() {
        let json = br#"[{"Config": "c", "RepoTags": ["b:2", "reg.example/a:1"], "Layers": []}, {"RepoTags": null}, {}]"#;
        let found = docker(json).unwrap();
        let pairs: Vec<_> =
            found.iter().map(|image| (image.name.as_str(), image.selector.as_str())).collect();
        assert_eq!(pairs, [("docker.io/library/b:2", ":b:2"), ("reg.example/a:1", ":reg.example/a:1")]);
        assert_eq!(docker(b"{}").unwrap_err().code, Code::ImageImport);
    }

    fn index(annotations: &[&str]) -> String {
        let entries: Vec<String> =
            annotations.iter().map(|text| format!("{{\"annotations\": {text}}}")).collect();
        format!("{{\"manifests\": [{}]}}", entries.join(", "))
    }

    #[test]
    fn a_list_of_the_oci_tells_each_image_or_is_refused() {
        let names = |annotations: &[&str]| {
            oci(index(annotations).as_bytes()).map(|images| {
                images.into_iter().map(|image| (image.name, image.selector)).collect::<Vec<_>>()
            })
        };
        let pair = |name: &str, selector: &str| (name.to_owned(), selector.to_owned());
        let a = r#"{"org.opencontainers.image.ref.name": "reg.example/a:1"}"#;
        let b = r#"{"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": "docker.io/me/b:latest"}"#;
        let c = r#"{"io.containerd.image.name": "docker.io/me/c:1"}"#;
        assert_eq!(
            names(&[a, b, "null"]).unwrap(),
            [pair("reg.example/a:1", ":reg.example/a:1"), pair("docker.io/me/b:latest", ":latest")]
        );
        assert_eq!(names(&[c]).unwrap(), [pair("docker.io/me/c:1", "")]);
        for (annotations, why) in [
            (&[a, c][..], "to tell it by"),
            (&[b, b], "two images have"),
            (&[r#"{"org.opencontainers.image.ref.name": "latest"}"#], "only the tag `latest`"),
        ] {
            let fault = names(annotations).unwrap_err();
            assert!(fault.code == Code::ImageImport && fault.message.contains(why), "{fault:?}");
        }
    }
}
