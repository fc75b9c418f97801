//! Where the archives are that the config names, and what they must be.

use crate::node::{Node, read_json};
use std::fs;
use tatara_spec::config::{ImageArchive, ImageSource};
use tatara_spec::layout::state;
use tatara_spec::release::{Archives, archive_file};
use tatara_spec::{Code, Fault, redact};
use url::Url;

/// An archive to fetch.
pub(super) struct Archive {
    /// What people know it by.
    pub(super) shown: String,
    /// What the file must have, lower-case hex.
    pub(super) sha256: String,
    /// Its size, where it is known beforehand.
    pub(super) bytes: Option<u64>,
    place: Place,
}

/// Where its URL comes from.
enum Place {
    /// It is this one, perhaps relative to the config's.
    Url(String),
    /// It is this file beside the release's manifest.
    Release(String),
}

impl Archive {
    /// Refuses a file of another size before it is fetched.
    pub(super) fn check_size(&self, what: &str, found: u64) -> Result<(), Fault> {
        match self.bytes {
            Some(bytes) if bytes != found => {
                let message =
                    format!("{what} has {found} bytes, not {bytes} with the SHA-256 {}", self.sha256);
                Err(Fault::new(Code::ImageDigest, message))
            }
            _ => Ok(()),
        }
    }
}

/// The node's archives: those of its release, and those that servers have.
pub(super) struct Shelf<'a> {
    pub(super) node: &'a Node,
    /// `install.release.url` of the config.
    pub(super) release_url: &'a str,
}

impl Shelf<'_> {
    /// The archive that an entry of the config names. One of the release is what PID 1 has found in the release's manifest, which it
    /// verified: no digest is fetched here.
    pub(super) fn find(&self, entry: &ImageArchive) -> Result<Archive, Fault> {
        match entry.source() {
            Some(ImageSource::Url { url, sha256 }) => Ok(Archive {
                shown: redact::url(url),
                sha256: sha256.to_owned(),
                bytes: None,
                place: Place::Url(url.to_owned()),
            }),
            Some(ImageSource::Release(name)) => {
                let archives = self.of_the_release()?;
                let known = archives.get(name)?;
                Ok(Archive {
                    shown: format!("{name} of release {}", archives.release),
                    sha256: known.sha256.to_string(),
                    bytes: Some(known.bytes),
                    place: Place::Release(archive_file(name)),
                })
            }
            None => Err(Fault::new(Code::Internal, "an image archive of the config has no source")),
        }
    }

    /// What is kept for the slot that runs, if it is of the release that runs.
    fn of_the_release(&self) -> Result<Archives, Fault> {
        let boot = self.node.boot()?;
        let kept = read_json::<Archives>(&self.node.state(&state::archives(boot.slot)))?;
        let kept = kept.filter(|archives| archives.release == boot.release);
        Ok(kept.unwrap_or_else(|| Archives::none(&boot.release)))
    }

    /// Where to fetch an archive.
    pub(super) fn url(&self, archive: &Archive) -> Result<Url, Fault> {
        match &archive.place {
            Place::Url(url) => self.absolute(url),
            Place::Release(file) => {
                let manifest = self.absolute(self.release_url)?;
                manifest.join(file).map_err(|error| bad_url(manifest.as_str(), error))
            }
        }
    }

    /// A relative URL is relative to the config's, which PID 1 has kept.
    fn absolute(&self, text: &str) -> Result<Url, Fault> {
        match Url::parse(text) {
            Ok(url) => Ok(url),
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                let path = self.node.state(state::CONFIG_URL);
                let base = fs::read_to_string(&path).map_err(|error| {
                    Fault::caused(Code::NodeState, format!("read {}", path.display()), error)
                })?;
                Url::parse(base.trim()).and_then(|base| base.join(text)).map_err(|error| bad_url(text, error))
            }
            Err(error) => Err(bad_url(text, error)),
        }
    }
}

fn bad_url(text: &str, error: url::ParseError) -> Fault {
    Fault::caused(Code::UrlBad, format!("`{}` is not a URL", redact::url(text)), error)
}
