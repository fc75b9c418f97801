//! The list of what a node's init begins with, so that PID 1 can have it read while it has other things to do.

use super::rootfs;
use anyhow::{Context as _, Result};
use goblin::elf::Elf;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use tatara_spec::layout;

const INIT: &str = "sbin/init";
/// Where the dynamic linker looks when a program does not say (ld.so(8); Debian's multiarch directory is in its cache).
const LIBRARY_DIRS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Writes [`layout::FIRST_READ`] into a root: its init, the dynamic linker, and the libraries that init is linked with.
///
/// # Errors
/// A file cannot be read or written. An init that is a script, or missing, has an empty list: PID 1 judges it.
pub(crate) fn write_list(root: &Path) -> Result<()> {
    let list: String = linked(root)?.iter().map(|path| format!("{path}\n")).collect();
    rootfs::write(&root.join(layout::FIRST_READ.trim_start_matches('/')), list.as_bytes(), 0o644)
}

/// Paths below the root, in the order in which they are found: init first.
fn linked(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![INIT.to_owned()];
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let Some(bytes) = read_inside(root, &path)? else { continue };
        let Ok(program) = Elf::parse(&bytes) else { continue };
        open.extend(program.interpreter.map(|linker| linker.trim_start_matches('/').to_owned()));
        let own = program.runpaths.iter().chain(&program.rpaths).flat_map(|paths| paths.split(':'));
        let dirs: Vec<&str> = own.map(|dir| dir.trim_start_matches('/')).chain(LIBRARY_DIRS).collect();
        for library in &program.libraries {
            let places = dirs.iter().map(|dir| format!("{dir}/{library}"));
            open.extend(places.into_iter().find(|place| open_inside(root, place).is_ok()));
        }
        found.push(path);
    }
    Ok(found)
}

fn read_inside(root: &Path, path: &str) -> Result<Option<Vec<u8>>> {
    let Ok(mut file) = open_inside(root, path) else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(|| format!("cannot read {path} in the root"))?;
    Ok(Some(bytes))
}

/// Links lead where they do on the node.
fn open_inside(root: &Path, path: &str) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(File::open(root)?, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?.into())
}

#[cfg(test)]
mod tests {
    use super::{linked, write_list};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// A root whose init is this machine's `sh`, with this machine's libraries.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in ["usr/lib/x86_64-linux-gnu", "usr/lib64", "sbin", "bin"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        symlink("usr/lib64", root.path().join("lib64")).unwrap();
        let copy = |from: &str, to: &str| fs::copy(from, root.path().join(to)).unwrap();
        copy("/bin/sh", "bin/sh");
        copy("/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6");
        copy("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2");
        symlink("/bin/sh", root.path().join("sbin/init")).unwrap();
        root
    }

    #[test]
    fn init_its_linker_and_its_libraries() {
        let root = root();
        let mut found = linked(root.path()).unwrap();
        assert_eq!(found.remove(0), "sbin/init");
        found.sort();
        let linker = "lib64/ld-linux-x86-64.so.2";
        let libraries: Vec<_> = found.iter().filter(|path| *path != linker).collect();
        assert!(found.iter().any(|path| path == linker), "{found:?}");
        assert!(libraries.contains(&&"usr/lib/x86_64-linux-gnu/libc.so.6".to_owned()), "{found:?}");
        write_list(root.path()).unwrap();
        let list = fs::read_to_string(root.path().join("usr/lib/tatara/first-read")).unwrap();
        assert_eq!(list.lines().count(), found.len() + 1);
    }

    #[test]
    fn a_script_or_nothing_has_no_libraries() {
        let root = tempfile::tempdir().unwrap();
        assert!(linked(root.path()).unwrap().is_empty());
        fs::create_dir_all(root.path().join("sbin")).unwrap();
        fs::write(root.path().join("sbin/init"), "#!/bin/sh\n").unwrap();
        assert!(linked(root.path()).unwrap().is_empty());
        assert!(linked(Path::new("/nonexistent")).unwrap().is_empty());
    }
}
