//! Which kernel modules go into the initramfs: the groups of `modules.toml` with everything that they depend on, and the
//! reduced module tables that go with them.
//!
//! Sources: modules.dep(5), depmod.d(5) (softdep), kernel `Documentation/kbuild/modules.rst`.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How a module's file is kept in the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// As the kernel package has it, `.ko.xz`.
    Xz,
    /// Decompressed, `.ko`. The stronger wish: a module that two groups share is stored so when one of them asks for it.
    Raw,
}

/// One group of `modules.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Short name, for the size report.
    pub name: String,
    /// Why the initramfs has it.
    pub reason: String,
    /// How its modules and their dependencies are stored.
    pub storage: Storage,
    /// Whether a kernel without one of them is refused.
    #[serde(default)]
    pub required: bool,
    /// Module names, with `-` or `_`.
    pub modules: Vec<String>,
}

/// The groups of this release.
///
/// # Errors
/// `modules.toml` is wrong; a test reads it.
pub fn groups() -> Result<Vec<Group>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        group: Vec<Group>,
    }
    Ok(toml::from_str::<File>(include_str!("modules.toml")).context("cannot parse modules.toml")?.group)
}

/// Module names are compared with `_`, as the kernel's own name of a module has no `-`.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/drivers/net/virtio_net.ko.xz` → `virtio_net`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split(".ko").next().unwrap_or(file))
}

/// The module tables of one kernel.
#[derive(Debug)]
pub struct Tables {
    directory: PathBuf,
    /// Name → path below the directory, and paths that it needs, in modules.dep's order.
    modules: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
    builtin_text: String,
    /// `alias PATTERN MODULE` lines.
    aliases: Vec<(String, String)>,
    /// `softdep MODULE …` lines: module and the words after it.
    softdeps: Vec<(String, Vec<String>)>,
}

/// What goes in: path below the module directory → how, and for which group.
pub type Selection = BTreeMap<String, Chosen>;

/// One selected module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Kernel's name of the module.
    pub name: String,
    /// How it is stored.
    pub storage: Storage,
    /// The first group that needs it.
    pub group: String,
}

impl Tables {
    /// Reads the text tables below `…/lib/modules/VERSION`.
    ///
    /// # Errors
    /// A table cannot be read: `depmod` did not run there.
    pub fn read(directory: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let builtin_text = text("modules.builtin")?;
        Ok(Self {
            directory: directory.to_owned(),
            modules: parse_dep(&text("modules.dep")?),
            builtin: builtin_text.lines().map(name_of).collect(),
            builtin_text,
            aliases: parse_aliases(&text("modules.alias")?),
            softdeps: parse_softdeps(&text("modules.softdep")?),
        })
    }

    /// The directory that the tables describe.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The groups' modules with all that they depend on, hard and soft.
    ///
    /// # Errors
    /// A required module is neither there nor built in.
    pub fn select(&self, groups: &[Group]) -> Result<Selection> {
        let mut selection = Selection::new();
        for group in groups {
            for wanted in &group.modules {
                let name = normal(wanted);
                if self.modules.contains_key(&name) {
                    self.add(&name, group, &mut selection);
                } else if group.required && !self.builtin.contains(&name) {
                    bail!(
                        "the kernel in {} has no module `{wanted}`: {}",
                        self.directory.display(),
                        group.reason
                    );
                }
            }
        }
        Ok(selection)
    }

    fn add(&self, name: &str, group: &Group, selection: &mut Selection) {
        let Some((path, needs)) = self.modules.get(name) else { return };
        let known = selection.get_mut(path).map(|chosen| {
            let weaker = chosen.storage < group.storage;
            chosen.storage = chosen.storage.max(group.storage);
            weaker
        });
        // A module that is there already is gone through again only when its dependencies have to be stored otherwise.
        if known == Some(false) {
            return;
        }
        if known.is_none() {
            let chosen = Chosen { name: name.to_owned(), storage: group.storage, group: group.name.clone() };
            selection.insert(path.clone(), chosen);
        }
        for need in needs {
            self.add(&name_of(need), group, selection);
        }
        for soft in self.soft(name) {
            self.add(&soft, group, selection);
        }
    }

    /// Modules behind a module's soft dependencies. They name aliases (`crypto-crc32c`) as often as modules.
    fn soft(&self, name: &str) -> BTreeSet<String> {
        let wanted = self.softdeps.iter().filter(|(module, _)| module == name).flat_map(|(_, words)| words);
        let mut found = BTreeSet::new();
        for word in wanted.filter(|word| !word.ends_with(':')) {
            let word = normal(word);
            let behind = self.aliases.iter().filter(|(pattern, _)| normal(pattern) == word);
            found.extend(behind.map(|(_, module)| module.clone()));
            found.insert(word);
        }
        found
    }

    /// The module tables reduced to a selection, as `(file name, text)`. `modules.builtin` stays complete: a request for a
    /// built-in module is then answered without a search.
    #[must_use]
    pub fn reduced(&self, selection: &Selection) -> Vec<(&'static str, String)> {
        let stored = |path: &str| {
            selection.get(path).map(|chosen| match chosen.storage {
                Storage::Xz => path.to_owned(),
                Storage::Raw => path.trim_end_matches(".xz").to_owned(),
            })
        };
        let inside: BTreeSet<&str> = selection.values().map(|chosen| chosen.name.as_str()).collect();
        let mut dep = String::new();
        for (path, chosen) in selection {
            dep.push_str(&stored(path).unwrap_or_default());
            dep.push(':');
            let needs = self.modules.get(&chosen.name).map(|(_, needs)| needs.as_slice()).unwrap_or_default();
            for need in needs.iter().filter_map(|need| stored(need)) {
                dep.push(' ');
                dep.push_str(&need);
            }
            dep.push('\n');
        }
        let mut alias: Vec<_> =
            self.aliases.iter().filter(|(_, module)| inside.contains(module.as_str())).collect();
        // PID 1 sorts them at every boot. The modules of one pattern stay in depmod's order, which is that of their priority.
        alias.sort_by(|(one, _), (other, _)| one.cmp(other));
        let softdep = self.softdeps.iter().filter(|(module, _)| inside.contains(module.as_str()));
        vec![
            ("modules.dep", dep),
            (
                "modules.alias",
                alias.iter().map(|(pattern, module)| format!("alias {pattern} {module}\n")).collect(),
            ),
            (
                "modules.softdep",
                softdep.map(|(module, words)| format!("softdep {module} {}\n", words.join(" "))).collect(),
            ),
            ("modules.builtin", self.builtin_text.clone()),
        ]
    }
}

fn parse_dep(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            (name_of(path), (path.to_owned(), needs))
        })
        .collect()
}

fn parse_aliases(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
        .map(|(pattern, module)| (pattern.to_owned(), normal(module)))
        .collect()
}

fn parse_softdeps(text: &str) -> Vec<(String, Vec<String>)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("softdep ")?.split_once(' '))
        .map(|(module, words)| (normal(module), words.split_whitespace().map(str::to_owned).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> (tempfile::TempDir, Tables) {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write(
            "modules.dep",
            "k/ext4.ko.xz: k/jbd2.ko.xz k/crc16.ko.xz\nk/jbd2.ko.xz:\nk/crc16.ko.xz:\nk/crc32c-x.ko.xz:\nk/usb-nic.ko.xz: k/crc16.ko.xz k/mii.ko.xz\nk/mii.ko.xz:\n",
        );
        write("modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n");
        write(
            "modules.alias",
            "# c\nalias fs-ext4 ext4\nalias fs-ext4 crc16\nalias crypto-crc32c crc32c-x\nalias usb:v1p* usb_nic\nalias fs-xfs xfs\n",
        );
        write("modules.softdep", "# c\nsoftdep ext4 pre: crypto-crc32c\nsoftdep xfs pre: nls\n");
        let tables = Tables::read(root.path()).unwrap();
        (root, tables)
    }

    fn group(storage: Storage, modules: &[&str]) -> Group {
        let modules = modules.iter().map(|&m| m.to_owned()).collect();
        Group { name: "g".into(), reason: "because".into(), storage, required: true, modules }
    }

    #[test]
    fn dependencies_come_along_and_soft_ones_through_their_alias() {
        let (_root, tables) = tables();
        let selection = tables.select(&[group(Storage::Xz, &["ext4", "virtio-pci"])]).unwrap();
        let names: Vec<&str> = selection.values().map(|chosen| chosen.name.as_str()).collect();
        assert_eq!(names, ["crc16", "crc32c_x", "ext4", "jbd2"]);
    }

    #[test]
    fn a_shared_dependency_is_raw_when_one_group_wants_it_raw_in_either_order() {
        let (_root, tables) = tables();
        let mut groups = [group(Storage::Xz, &["usb-nic"]), group(Storage::Raw, &["ext4"])];
        for _ in 0..2 {
            let selection = tables.select(&groups).unwrap();
            assert_eq!(selection["k/crc16.ko.xz"].storage, Storage::Raw);
            assert_eq!(selection["k/mii.ko.xz"].storage, Storage::Xz);
            let reduced = tables.reduced(&selection);
            assert!(reduced[0].1.contains("k/usb-nic.ko.xz: k/crc16.ko k/mii.ko.xz\n"), "{}", reduced[0].1);
            assert!(reduced[0].1.contains("k/ext4.ko: k/jbd2.ko k/crc16.ko\n"));
            groups.reverse();
        }
    }

    #[test]
    fn tables_hold_only_what_is_inside() {
        let (_root, tables) = tables();
        let selection = tables.select(&[group(Storage::Raw, &["ext4"])]).unwrap();
        let reduced: BTreeMap<_, _> = tables.reduced(&selection).into_iter().collect();
        let sorted = "alias crypto-crc32c crc32c_x\nalias fs-ext4 ext4\nalias fs-ext4 crc16\n";
        assert_eq!(reduced["modules.alias"], sorted);
        assert_eq!(reduced["modules.softdep"], "softdep ext4 pre: crypto-crc32c\n");
    }

    #[test]
    fn a_required_module_that_is_missing_is_refused_with_the_reason() {
        let (_root, tables) = tables();
        let error = tables.select(&[group(Storage::Raw, &["erofs"])]).unwrap_err().to_string();
        assert!(error.contains("`erofs`") && error.contains("because"), "{error}");
        let mut optional = group(Storage::Raw, &["erofs"]);
        optional.required = false;
        assert!(tables.select(&[optional]).unwrap().is_empty());
    }

    #[test]
    fn the_list_of_this_release_is_sound() {
        let groups = groups().unwrap();
        let names: Vec<&String> = groups.iter().flat_map(|group| &group.modules).collect();
        let unique: BTreeSet<&String> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len(), "a module is named twice");
        assert!(groups.iter().all(|group| !group.reason.is_empty()));
        assert!(groups.iter().any(|group| group.required && group.modules.iter().any(|m| m == "erofs")));
    }
}
