//! Where this machine gets its Debian packages from: apt's own configuration, so that a build uses the same mirror.
//!
//! Sources: sources.list(5), both the one-line style (`*.list`) and the deb822 style (`*.sources`).

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    components: Vec<String>,
}

/// The mirrors that a bootstrap uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirrors {
    /// The Debian archive.
    pub archive: String,
    /// The security archive, when the machine has one.
    pub security: Option<String>,
}

/// Reads `ROOT/etc/apt`: the first Debian archive, and the first security archive.
///
/// # Errors
/// A file cannot be read, or none names a Debian archive.
pub(crate) fn mirrors(root: &Path) -> Result<Mirrors> {
    let mut sources = Vec::new();
    for path in files(&root.join("etc/apt"))? {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let deb822 = path.extension().is_some_and(|extension| extension == "sources");
        sources.extend(if deb822 { parse_deb822(&text) } else { parse_list(&text) });
    }
    select(&sources)
}

/// `sources.list` first, then `sources.list.d/*` in order of name, as apt reads them.
fn files(apt: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(apt.join("sources.list.d")) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()
            .with_context(|| format!("cannot list {}", apt.display()))?,
        Err(_) => Vec::new(),
    };
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "sources" || ext == "list"));
    paths.sort();
    let main = apt.join("sources.list");
    if main.is_file() {
        paths.insert(0, main);
    }
    Ok(paths)
}

/// An archive is told by the end of its path, as every mirror of Debian keeps it: `…/debian`, `…/debian-security`.
fn select(sources: &[Source]) -> Result<Mirrors> {
    let first = |name: &str| {
        sources
            .iter()
            .find(|source| {
                let path = source.uri.trim_end_matches('/');
                path.rsplit('/').next() == Some(name) && source.components.iter().any(|c| c == "main")
            })
            .map(|source| source.uri.clone())
    };
    let Some(archive) = first("debian") else {
        bail!(
            "apt's configuration names no Debian archive among {} sources; give one with --mirror URL",
            sources.len()
        );
    };
    Ok(Mirrors { archive, security: first("debian-security") })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `deb [option=value …] URI suite component…`.
fn parse_list(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
            let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut parts = words(rest).into_iter();
            let uri = parts.next()?;
            parts.next()?; // the suite, which is ours to choose
            Some(Source { uri, components: parts.collect() })
        })
        .collect()
}

/// Stanzas of `Field: value`, continued by lines that begin with white space; `Enabled: no` turns one off.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for stanza in stanzas(text) {
        let field = |name: &str| {
            stanza.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| words(value))
        };
        let values = |name: &str| field(name).unwrap_or_default();
        let enabled = !values("Enabled").iter().any(|value| value.eq_ignore_ascii_case("no"));
        if !enabled || !values("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        sources
            .extend(values("URIs").into_iter().map(|uri| Source { uri, components: values("Components") }));
    }
    sources
}

fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut stanzas = vec![Vec::<(String, String)>::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else if let Some(stanza) = stanzas.last_mut() {
            if line.starts_with(char::is_whitespace) {
                if let Some((_, value)) = stanza.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                stanza.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apt(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/apt/sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join("etc/apt").join(name), text).unwrap();
        }
        root
    }

    #[test]
    fn deb822_with_comments_continuations_and_a_disabled_stanza() {
        let root = apt(&[(
            "sources.list.d/debian.sources",
            "Types: deb\nURIs: http://off.test/debian\nComponents: main\nEnabled: no\n\n\
             Types: deb deb-src\n# dated\nURIs: http://mirror.test/debian\nSuites: bookworm\n bookworm-updates\n\
             Components: main\n\nTypes: deb\nURIs: http://mirror.test/debian-security/\nSuites: x\nComponents: main\n",
        )]);
        let found = mirrors(root.path()).unwrap();
        assert_eq!(found.archive, "http://mirror.test/debian");
        assert_eq!(found.security.as_deref(), Some("http://mirror.test/debian-security/"));
    }

    #[test]
    fn one_line_style_with_options_and_foreign_archives() {
        let root = apt(&[
            ("sources.list.d/a.list", "deb https://other.test/apt stable main\n"),
            (
                "sources.list.d/b.list",
                "# deb http://no.test/debian x main\ndeb-src http://no.test/debian x main\n\
                 deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # here\n",
            ),
        ]);
        let found = mirrors(root.path()).unwrap();
        assert_eq!(found, Mirrors { archive: "http://mirror.test/debian".into(), security: None });
    }

    #[test]
    fn no_archive_says_what_to_do() {
        let root = apt(&[]);
        assert!(mirrors(root.path()).unwrap_err().to_string().contains("--mirror"));
    }
}
