//! What depmod(8) wrote about the modules: files, dependencies, soft dependencies, aliases, and what is built into the kernel.

use super::alias::{Aliases, normalise};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::OnceLock;
use tatara_spec::{Code, Fault};

/// One module.
#[derive(Debug)]
pub(crate) struct Module {
    /// Name, with underscores.
    pub(crate) name: String,
    /// File, relative to the modules' directory.
    pub(crate) file: String,
    /// Everything it needs, directly or not.
    needs: Vec<String>,
}

/// A module to load, and what must have been loaded before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Which module.
    pub(crate) module: usize,
    /// Positions in the list of jobs, all lower than the own one: what is waited for never waits for this.
    pub(crate) after: Vec<usize>,
}

/// Soft dependencies of a module: loaded when there, no failure when not (modprobe.d(5)).
#[derive(Debug, Default)]
struct Soft {
    pre: Vec<String>,
    post: Vec<String>,
}

/// The modules of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Index {
    modules: Vec<Module>,
    by_name: HashMap<String, usize>,
    alias_text: String,
    /// Parsed by who needs one first, while others go on.
    aliases: OnceLock<Aliases>,
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
}

impl Index {
    /// Reads `modules.dep`, `modules.alias`, `modules.softdep` and `modules.builtin` in `dir`.
    ///
    /// # Errors
    /// [`Code::Module`] when `modules.dep` or `modules.alias` cannot be read; the other two may be absent.
    pub(crate) fn read(dir: &Path) -> Result<Self, Fault> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path)
                .map_err(|e| Fault::caused(Code::Module, format!("cannot read {}", path.display()), e))
        };
        let optional = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        Ok(Self::parse(
            &read("modules.dep")?,
            read("modules.alias")?,
            &optional("modules.softdep"),
            &optional("modules.builtin"),
        ))
    }

    /// Parses the four files. Lines that are none are ignored, as libkmod does.
    pub(crate) fn parse(dep: &str, alias: String, softdep: &str, builtin: &str) -> Self {
        let modules: Vec<_> = dep.lines().filter_map(parse_dep).collect();
        Self {
            by_name: modules.iter().enumerate().map(|(i, module)| (module.name.clone(), i)).collect(),
            modules,
            alias_text: alias,
            aliases: OnceLock::new(),
            soft: softdep.lines().filter_map(parse_softdep).collect(),
            builtin: builtin.lines().map(|line| module_name(line.trim())).collect(),
        }
    }

    /// One module; `None` for a number that is not of this index.
    pub(crate) fn module(&self, number: usize) -> Option<&Module> {
        self.modules.get(number)
    }

    /// Whether the kernel has a module of this name built in.
    pub(crate) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(&normalise(name))
    }

    /// The modules that a name or an alias stands for; a name goes before aliases.
    pub(crate) fn resolve(&self, name: &str) -> Vec<usize> {
        if let Some(module) = self.by_name.get(&normalise(name)) {
            return vec![*module];
        }
        let aliases = self.aliases.get_or_init(|| Aliases::parse(&self.alias_text));
        aliases.lookup(name).iter().filter_map(|module| self.by_name.get(*module).copied()).collect()
    }

    /// The jobs that load `wanted` with all they need, in an order that works; modules that `skip` names are left out.
    pub(crate) fn plan(&self, wanted: &[usize], skip: &dyn Fn(usize) -> bool) -> Vec<Job> {
        let mut planner = Planner { index: self, skip, jobs: Vec::new(), seen: HashMap::new() };
        for module in wanted {
            planner.add(*module);
        }
        planner.jobs
    }
}

/// Depth-first search through dependencies.
struct Planner<'a> {
    index: &'a Index,
    skip: &'a dyn Fn(usize) -> bool,
    jobs: Vec<Job>,
    /// Module to its job; `None` while what it needs is added, and for skipped ones.
    seen: HashMap<usize, Option<usize>>,
}

impl Planner<'_> {
    /// Adds a module behind what it needs; its job's position, or `None` when it is skipped or part of a cycle.
    fn add(&mut self, number: usize) -> Option<usize> {
        if let Some(job) = self.seen.get(&number) {
            return *job;
        }
        self.seen.insert(number, None);
        let module = self.index.module(number)?;
        if (self.skip)(number) {
            return None;
        }
        let nothing = Soft::default();
        let soft = self.index.soft.get(&module.name).unwrap_or(&nothing);
        let before = module.needs.iter().chain(&soft.pre).flat_map(|name| self.index.resolve(name));
        let before: Vec<_> = before.collect();
        let mut after: Vec<_> = before.into_iter().filter_map(|needed| self.add(needed)).collect();
        after.sort_unstable();
        after.dedup();
        self.jobs.push(Job { module: number, after });
        let job = self.jobs.len() - 1;
        self.seen.insert(number, Some(job));
        for later in soft.post.iter().flat_map(|name| self.index.resolve(name)) {
            if let Some(later) = self.add(later)
                && later > job
                && let Some(later) = self.jobs.get_mut(later)
            {
                later.after.push(job);
            }
        }
        Some(job)
    }
}

/// The name of a module by its file: `kernel/fs/fat/vfat.ko.xz` is `vfat`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normalise(base.split(".ko").next().unwrap_or(base))
}

/// `FILE: NEEDED NEEDED…`
fn parse_dep(line: &str) -> Option<Module> {
    let (file, needs) = line.split_once(':')?;
    let needs = needs.split_whitespace().map(module_name).collect();
    Some(Module { name: module_name(file), file: file.to_owned(), needs })
}

/// `softdep NAME pre: A B post: C`
fn parse_softdep(line: &str) -> Option<(String, Soft)> {
    let mut words = line.split_whitespace();
    if words.next() != Some("softdep") {
        return None;
    }
    let name = normalise(words.next()?);
    let mut soft = Soft::default();
    let mut list = None;
    for word in words {
        match (word, list) {
            ("pre:" | "post:", _) => list = Some(word),
            (_, Some("pre:")) => soft.pre.push(word.to_owned()),
            (_, Some(_)) => soft.post.push(word.to_owned()),
            (_, None) => {}
        }
    }
    Some((name, soft))
}

#[cfg(test)]
mod tests {
    use super::Index;

    const DEP: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
        kernel/fs/mbcache.ko.xz:\n\
        kernel/fs/jbd2/jbd2.ko.xz:\n\
        kernel/lib/crc16.ko.xz:\n\
        kernel/crypto/crc32c_generic.ko.xz:\n\
        kernel/drivers/scsi/sd_mod.ko.xz: kernel/drivers/scsi/scsi-mod.ko.xz\n\
        kernel/drivers/scsi/scsi-mod.ko.xz:\n\
        kernel/a.ko: kernel/b.ko\n\
        kernel/b.ko: kernel/a.ko\n\
        kernel/early.ko:\n\
        kernel/late.ko:\n";
    const ALIAS: &str = "alias fs-ext4 ext4\nalias crypto-crc32c crc32c_generic\nalias scsi:t-0x00* sd_mod\n";
    const SOFTDEP: &str = "# comment\nsoftdep ext4 pre: crypto-crc32c absent\nsoftdep early post: late\n";

    fn index() -> Index {
        Index::parse(
            DEP,
            ALIAS.to_owned(),
            SOFTDEP,
            "kernel/fs/overlayfs/overlay.ko\nkernel/drivers/tty/serial/8250/8250-core.ko\n",
        )
    }

    /// The names of the modules of a plan; panics when a job waits for a later one.
    fn names(index: &Index, name: &str, skip: &[&str]) -> Vec<String> {
        let skipped = |number: usize| skip.contains(&index.module(number).unwrap().name.as_str());
        let jobs = index.plan(&index.resolve(name), &skipped);
        for (position, job) in jobs.iter().enumerate() {
            assert!(job.after.iter().all(|earlier| *earlier < position), "{jobs:?}");
        }
        jobs.iter().map(|job| index.module(job.module).unwrap().name.clone()).collect()
    }

    #[test]
    fn dependencies_come_first_and_soft_ones_by_alias() {
        let wanted = ["mbcache", "jbd2", "crc16", "crc32c_generic", "ext4"];
        assert_eq!(names(&index(), "fs-ext4", &[]), wanted);
        let index = index();
        let jobs = index.plan(&index.resolve("ext4"), &|_| false);
        assert_eq!(jobs[4].after, [0, 1, 2, 3], "the four can be loaded side by side");
        assert!(jobs[..4].iter().all(|job| job.after.is_empty()));
    }

    #[test]
    fn loaded_modules_are_skipped() {
        assert_eq!(names(&index(), "ext4", &["jbd2", "crc16"]), ["mbcache", "crc32c_generic", "ext4"]);
        assert!(names(&index(), "ext4", &["ext4"]).is_empty());
    }

    #[test]
    fn hyphens_and_underscores_are_the_same() {
        assert_eq!(names(&index(), "sd-mod", &[]), ["scsi_mod", "sd_mod"]);
        assert_eq!(names(&index(), "scsi:t-0x00", &["scsi_mod"]), ["sd_mod"]);
    }

    #[test]
    fn cycles_end_and_post_comes_after() {
        assert_eq!(names(&index(), "a", &[]), ["b", "a"]);
        let index = index();
        let jobs = index.plan(&index.resolve("early"), &|_| false);
        assert_eq!((jobs.len(), jobs[1].after.as_slice()), (2, &[0][..]));
    }

    #[test]
    fn builtin_and_unknown_names() {
        let index = index();
        assert!(index.is_builtin("overlay") && index.is_builtin("8250_core") && !index.is_builtin("ext4"));
        assert!(index.resolve("pci:v0000FFFF").is_empty());
    }

    #[test]
    fn a_missing_index_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Index::read(dir.path()).unwrap_err();
        assert_eq!(fault.code, tatara_spec::Code::Module);
        assert!(fault.message.ends_with("modules.dep"), "{}", fault.message);
    }
}
