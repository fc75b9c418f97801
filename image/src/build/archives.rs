//! Archives of container images that are put into a release.

use super::bootstrap::TAR;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tatara_spec::release::{archive_file, is_archive_name};

/// Bytes of a tar header (POSIX.1-2017, pax, "ustar Header Block").
const HEADER_BYTES: u64 = 512;
/// Where it has the field `magic`: in the form that every tool writes which makes images. A compressed archive has none.
const MAGIC: (usize, &[u8]) = (257, b"ustar");

/// The file by which containerd and skopeo know what is in an archive: Docker's, or that of an OCI image layout.
const INDEXES: [&str; 2] = ["manifest.json", "index.json"];

/// The given archives by their names in the release.
///
/// # Errors
/// One is missing, has a name that no release takes, or the name of another one; or it is no archive of images.
pub(crate) fn find(files: &[PathBuf]) -> Result<BTreeMap<String, &Path>> {
    let mut found: BTreeMap<String, &Path> = BTreeMap::new();
    for path in files {
        let name = name(path)?;
        if let Some(other) = found.get(&name) {
            let (one, two) = (other.display(), path.display());
            bail!("--image {two}: {one} has the same file name, and a release has one `{name}`");
        }
        check(path).with_context(|| format!("--image {} cannot be put into the release", path.display()))?;
        found.insert(name, path);
    }
    Ok(found)
}

fn name(path: &Path) -> Result<String> {
    match path.file_name().and_then(|name| name.to_str()).filter(|name| is_archive_name(name)) {
        Some(name) => Ok(name.to_owned()),
        None => bail!(
            "--image {}: expected a file whose name is at most 94 letters, digits and `._-+`, not beginning with a dot",
            path.display()
        ),
    }
}

/// Whether a container runtime will find images in a file.
fn check(path: &Path) -> Result<()> {
    if !fs::metadata(path)?.is_file() {
        bail!("it is no file");
    }
    let mut header = Vec::new();
    File::open(path)?.take(HEADER_BYTES).read_to_end(&mut header)?;
    let (at, magic) = MAGIC;
    if header.get(at..at + magic.len()) != Some(magic) {
        bail!("it is no tar; a compressed one must be unpacked first");
    }
    let listing = TAR.run(["--list".as_ref(), "--file".as_ref(), path.as_os_str()])?;
    let listing = String::from_utf8_lossy(&listing);
    let is_index = |line: &str| INDEXES.contains(&line.trim_start_matches("./"));
    if !listing.lines().any(is_index) {
        bail!(
            "it is a tar without manifest.json and index.json, so it has no images; `docker save` and `skopeo copy` write such an archive"
        );
    }
    Ok(())
}

/// Copies the archives to the files of a release; gives the names of these.
///
/// # Errors
/// One cannot be copied.
pub(crate) fn copy(archives: &BTreeMap<String, &Path>, out: &Path) -> Result<Vec<String>> {
    let copy = |(name, from): (&String, &&Path)| {
        let file = archive_file(name);
        fs::copy(from, out.join(&file)).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(file)
    };
    archives.iter().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::{TAR, find};
    use std::fs;
    use std::path::{Path, PathBuf};

    /// A tar with one file of this name.
    fn tar(target: &Path, file: &str) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(file), "[]").unwrap();
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let arguments = ["--create".as_ref(), "--file".as_ref(), target.as_os_str(), "--directory".as_ref()];
        TAR.run(arguments.into_iter().chain([directory.path().as_os_str(), file.as_ref()])).unwrap();
    }

    fn refused(files: &[PathBuf]) -> String {
        format!("{:#}", find(files).unwrap_err())
    }

    #[test]
    fn archives_of_both_kinds_are_found_by_their_names() {
        let work = tempfile::tempdir().unwrap();
        let (docker, oci) = (work.path().join("docker.tar"), work.path().join("oci"));
        tar(&docker, "manifest.json");
        tar(&oci, "./index.json");
        let files = [oci.clone(), docker.clone()];
        let found: Vec<(String, &Path)> = find(&files).unwrap().into_iter().collect();
        assert_eq!(found, [("docker.tar".to_owned(), docker.as_path()), ("oci".to_owned(), oci.as_path())]);
    }

    #[test]
    fn what_is_no_archive_of_images_is_refused_by_name() {
        let work = tempfile::tempdir().unwrap();
        let path = |name: &str| work.path().join(name);
        tar(&path("a.tar"), "manifest.json");
        tar(&path("other/a.tar"), "manifest.json");
        tar(&path("a b.tar"), "manifest.json");
        tar(&path(".hidden.tar"), "manifest.json");
        tar(&path("root.tar"), "passwd");
        fs::write(path("text.tar"), "x".repeat(1024)).unwrap();
        fs::write(path("empty.tar"), "").unwrap();
        let whole = fs::read(path("a.tar")).unwrap();
        fs::write(path("cut.tar"), &whole[..600]).unwrap();
        for (name, why) in [
            ("missing.tar", "No such file"),
            ("other", "it is no file"),
            ("a b.tar", "expected a file whose name"),
            (".hidden.tar", "expected a file whose name"),
            ("..", "expected a file whose name"),
            ("text.tar", "it is no tar"),
            ("empty.tar", "it is no tar"),
            ("cut.tar", "Unexpected EOF"),
            ("root.tar", "without manifest.json and index.json"),
        ] {
            let error = refused(&[path("a.tar"), path(name)]);
            assert!(
                error.contains(why) && error.contains(&path(name).display().to_string()),
                "{name}: {error}"
            );
        }
        let error = refused(&[path("a.tar"), path("other/a.tar")]);
        assert!(error.contains("a release has one `a.tar`"), "{error}");
    }
}
