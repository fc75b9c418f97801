//! Where packages come from: Debian's from where this machine gets them, by apt's own configuration, and others from sources that the
//! operator gives.
//!
//! Sources: sources.list(5), both the one-line style (`*.list`) and the deb822 style (`*.sources`).

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    components: Vec<String>,
    /// What packages are verified with (`Signed-By`): paths, fingerprints or a key itself.
    keys: Vec<String>,
    /// Nothing is verified (`Trusted: yes`).
    trusted: bool,
}

/// A package source beside Debian's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The operator's file.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
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
        sources.extend(parse(&path, &text));
    }
    select(&sources)
}

/// Reads the operator's sources, and refuses those that a bootstrap would fail with, minutes later.
///
/// # Errors
/// A file is missing, is not named as apt's are, has no source of packages, or a source without a key or whose key is missing.
pub(crate) fn given(paths: &[PathBuf]) -> Result<Vec<Given>> {
    let read = |path: &PathBuf| {
        let text = check(path).with_context(|| format!("--apt-source {}", path.display()))?;
        Ok(Given { path: path.clone(), text })
    };
    paths.iter().map(read).collect()
}

fn check(path: &Path) -> Result<String> {
    let style = path.extension().and_then(|extension| extension.to_str());
    if !matches!(style, Some("list" | "sources")) {
        bail!("apt reads NAME.list and NAME.sources: name it so (sources.list(5))");
    }
    let text = std::fs::read_to_string(path).context("cannot read it")?;
    let sources = parse(path, &text);
    if sources.is_empty() {
        bail!("it has no source of packages: a line `deb …`, or a stanza with `Types: deb` and `URIs`");
    }
    for Source { uri, keys, trusted, .. } in sources {
        if keys.is_empty() && !trusted {
            bail!("{uri} has no key: add `[signed-by=FILE]` after `deb`, or `Signed-By: FILE` to the stanza");
        }
        if let Some(missing) = keys.iter().find(|key| key.starts_with('/') && !Path::new(key).is_file()) {
            bail!("the key {missing} of {uri} is missing");
        }
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Vec<Source> {
    let deb822 = path.extension().is_some_and(|extension| extension == "sources");
    if deb822 { parse_deb822(text) } else { parse_list(text) }
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
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let option = |name: &str| {
                options.split_whitespace().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
            };
            let mut parts = words(rest).into_iter();
            let uri = parts.next()?;
            parts.next()?; // the suite, which is ours to choose
            Some(Source {
                uri,
                components: parts.collect(),
                keys: option("signed-by")
                    .map(|keys| keys.split(',').map(str::to_owned).collect())
                    .unwrap_or_default(),
                trusted: option("trusted") == Some("yes"),
            })
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
        sources.extend(values("URIs").into_iter().map(|uri| Source {
            uri,
            components: values("Components"),
            keys: values("Signed-By"),
            trusted: values("Trusted").iter().any(|value| value.eq_ignore_ascii_case("yes")),
        }));
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
    fn a_source_of_the_operator_needs_a_key_that_is_there() {
        let work = tempfile::tempdir().unwrap();
        let key = work.path().join("key.asc");
        std::fs::write(&key, "a key").unwrap();
        let key = key.display();
        let check = |name: &str, text: &str| {
            let path = work.path().join(name);
            std::fs::write(&path, text).unwrap();
            given(std::slice::from_ref(&path)).map_err(|error| format!("{error:#}"))
        };
        for (name, text) in [
            ("a.list", format!("deb [arch=amd64 signed-by={key}] https://k.test/deb/ /\n")),
            ("a.sources", format!("Types: deb\nURIs: https://k.test/deb/\nSuites: /\nSigned-By: {key}\n")),
            ("b.sources", "Types: deb\nURIs: https://k.test/\nSuites: /\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n x\n".to_owned()),
            ("c.list", "deb [trusted=yes] copy:/srv/debs ./\n".to_owned()),
        ] {
            assert_eq!(check(name, &text).unwrap()[0].text, text, "{name}");
        }
        for (name, text, why) in [
            ("a.txt", "", "name it so"),
            ("a.list", "# deb https://k.test/ /\ndeb-src https://k.test/ /\n", "no source of packages"),
            ("a.list", "deb https://k.test/deb/ /\n", "https://k.test/deb/ has no key"),
            ("a.sources", "Types: deb\nURIs: https://k.test/\nSuites: /\n", "https://k.test/ has no key"),
            (
                "a.list",
                "deb [signed-by=/nowhere/k.gpg] https://k.test/ /\n",
                "the key /nowhere/k.gpg of https://k.test/ is missing",
            ),
        ] {
            let error = check(name, text).unwrap_err();
            assert!(error.contains(why) && error.contains(name), "{error}");
        }
        assert!(format!("{:#}", given(&["/nowhere/x.list".into()]).unwrap_err()).contains("No such file"));
    }

    #[test]
    fn no_archive_says_what_to_do() {
        let root = apt(&[]);
        assert!(mirrors(root.path()).unwrap_err().to_string().contains("--mirror"));
    }
}
