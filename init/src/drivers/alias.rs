//! Matching a device's modalias against the patterns of modules.alias.

/// The patterns of modules.alias, sorted by what stands before their first wildcard, so that a modalias is compared with few of them.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    text: String,
    /// Sorted by literal prefix.
    entries: Vec<Entry>,
    /// The lengths that literal prefixes have, each once.
    lengths: Vec<usize>,
}

/// One line; offsets into the text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    pattern: (usize, usize),
    literal: usize,
    module: (usize, usize),
}

impl Aliases {
    /// Parses modules.alias: lines `alias PATTERN MODULE` (modules.dep(5), modprobe.d(5)). Sorted ones cost less.
    pub(crate) fn parse(text: &str) -> Self {
        let text = normalise(text);
        let mut entries: Vec<_> = text.lines().filter_map(|line| entry(&text, line)).collect();
        entries.sort_by(|a, b| prefix(&text, a).cmp(prefix(&text, b)));
        let mut lengths: Vec<_> = entries.iter().map(|e| e.literal - e.pattern.0).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { text, entries, lengths }
    }

    /// The modules that a modalias or alias asks for, in the order of their patterns' prefixes.
    pub(crate) fn lookup(&self, name: &str) -> Vec<&str> {
        let name = normalise(name);
        let mut found = Vec::new();
        for length in &self.lengths {
            let Some(start) = name.as_bytes().get(..*length) else { break };
            let first = self.entries.partition_point(|e| prefix(&self.text, e) < start);
            for entry in self.entries.iter().skip(first) {
                if prefix(&self.text, entry) != start {
                    break;
                }
                let module = slice(&self.text, entry.module);
                let pattern = slice(&self.text, (entry.literal, entry.pattern.1));
                if !found.contains(&module) && matches(pattern, name.get(*length..).unwrap_or_default()) {
                    found.push(module);
                }
            }
        }
        found
    }
}

fn slice(text: &str, (start, end): (usize, usize)) -> &str {
    text.get(start..end).unwrap_or_default()
}

fn prefix<'a>(text: &'a str, entry: &Entry) -> &'a [u8] {
    text.as_bytes().get(entry.pattern.0..entry.literal).unwrap_or_default()
}

fn entry(text: &str, line: &str) -> Option<Entry> {
    let mut words = line.split_ascii_whitespace();
    let (Some("alias"), Some(pattern), Some(module), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    // The words are parts of the text: their addresses tell where they stand in it.
    let at = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let span = |word: &str| (at(word), at(word) + word.len());
    let literal = pattern.bytes().position(|byte| b"*?[\\".contains(&byte)).unwrap_or(pattern.len());
    Some(Entry { pattern: span(pattern), literal: at(pattern) + literal, module: span(module) })
}

/// `-` and `_` are the same in names, but not inside brackets (libkmod, `alias_normalize`).
pub(crate) fn normalise(text: &str) -> String {
    let mut in_brackets = false;
    let mut bytes = text.as_bytes().to_vec();
    for byte in &mut bytes {
        match *byte {
            b'[' => in_brackets = true,
            // A pattern that is cut off ends with its line.
            b']' | b'\n' => in_brackets = false,
            b'-' if !in_brackets => *byte = b'_',
            _ => {}
        }
    }
    // One ASCII character took the place of another: it is still UTF-8.
    String::from_utf8(bytes).unwrap_or_default()
}

/// fnmatch(3) without flags, as libkmod calls it: `*`, `?`, `[a-z]`, `[!a]` and backslash. Bytes are compared: aliases are ASCII.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on when a comparison fails: behind the last star, which then takes one byte more.
    let mut retry = None;
    while n < name.len() {
        let step = if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, n));
            continue;
        } else {
            single(pattern.get(p..).unwrap_or_default(), name[n])
        };
        match (step, retry) {
            (Some(bytes), _) => {
                p += bytes;
                n += 1;
            }
            (None, Some((after_star, taken))) => {
                p = after_star;
                n = taken + 1;
                retry = Some((after_star, n));
            }
            (None, None) => return false,
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

/// How many bytes of the pattern match this byte; `None` when they do not.
fn single(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [b'[', ref rest @ ..] => bracket(rest, byte).map(|bytes| bytes + 1),
        [literal, ..] => (literal == byte).then_some(1),
        [] => None,
    }
}

/// A bracket expression behind its `[`; without its end it matches nothing.
fn bracket(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let mut at = start;
    let mut inside = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > start {
            return (inside != negated).then_some(at + 1);
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                inside |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                inside |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Aliases, matches, normalise};
    use proptest::prelude::{prop_assert, proptest};

    const ALIASES: &str = "# Aliases extracted from modules themselves.\n\
        alias pci:v*d*sv*sd*bc01sc08i02* nvme\n\
        alias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
        alias pci:v00008086d00002922sv*sd*bc*sc*i* ahci\n\
        alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
        alias virtio:d00000002v* virtio_blk\n\
        alias scsi:t-0x00* sd_mod\n\
        alias fs-ext4 ext4\n\
        alias usb:v*p*d*dc*dsc*dp*ic08isc0[1-6]ip50in* usb_storage\n\
        alias crypto-crc32c crc32c_generic\n\
        alias crypto-crc32c crc32c_intel\n\
        alias broken\n";

    #[test]
    fn devices_find_their_drivers() {
        let aliases = Aliases::parse(ALIASES);
        for (modalias, wanted) in [
            ("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", &["nvme"][..]),
            ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", &["ahci"]),
            ("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00", &["virtio_pci"]),
            ("virtio:d00000002v00001AF4", &["virtio_blk"]),
            ("virtio:d00000001v00001AF4", &[]),
            ("scsi:t-0x00", &["sd_mod"]),
            ("scsi:t-0x05", &[]),
            ("fs-ext4", &["ext4"]),
            ("fs_ext4", &["ext4"]),
            ("fs-ext", &[]),
            ("usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00", &["usb_storage"]),
            ("crypto-crc32c", &["crc32c_generic", "crc32c_intel"]),
            ("", &[]),
        ] {
            assert_eq!(aliases.lookup(modalias), wanted, "{modalias}");
        }
    }

    #[test]
    fn fnmatch_semantics() {
        for (pattern, name, wanted) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[0-9a-f]x", "bx", true),
            ("[!0-9]", "5", false),
            ("[^0-9]", "a", true),
            ("[]a]", "]", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} on {name}");
        }
    }

    #[test]
    fn hyphens_are_kept_in_brackets_only() {
        assert_eq!(normalise("a-b[0-9]c-d\n[x\ny-z"), "a_b[0-9]c_d\n[x\ny_z");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: String, name: String) {
            let _ = Aliases::parse(&text).lookup(&name);
            let _ = matches(&text, &name);
        }

        #[test]
        fn the_prefix_search_finds_what_comparing_with_all_finds(
            patterns in proptest::collection::vec("[ab*?]{1,6}", 1..20),
            name in "[ab]{0,8}",
        ) {
            let lines: Vec<_> =
                patterns.iter().enumerate().map(|(i, p)| format!("alias {p} m{i}\n")).collect();
            let aliases = Aliases::parse(&lines.concat());
            let found = aliases.lookup(&name);
            for (i, pattern) in patterns.iter().enumerate() {
                let module = format!("m{i}");
                prop_assert!(found.contains(&module.as_str()) == matches(pattern, &name), "{pattern} {name}");
            }
        }
    }
}
