//! Sets of CPU numbers and their text forms.
//!
//! Source: kernel `Documentation/admin-guide/kernel-parameters.rst`, "cpu lists", and `lib/bitmap-str.c`.

use crate::error::{Code, Fault};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// CPU numbers end below this: the largest `CONFIG_NR_CPUS` of x86-64 (`arch/x86/Kconfig`).
const CPU_LIMIT: u32 = 8192;

/// A set of CPU numbers. Displays as a packed list, `0-3,8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet(pub BTreeSet<u32>);

impl CpuSet {
    /// Parses the kernel's grammar: `N` for the last CPU, `all`, `a-b`, `a-b:used/group`, separated by commas or white space.
    /// `last` is the largest possible CPU number of the machine.
    ///
    /// # Errors
    /// [`Code::CpuList`] with the part that is wrong. An empty list is an empty set, as in the kernel.
    pub fn parse(text: &str, last: u32) -> Result<Self, Fault> {
        Self::parse_up_to(text, last, last)
    }

    /// The same, for a list whose numbers may lie beyond `last`, so that a CPU that is not there can be told from a slip.
    pub(super) fn parse_wide(text: &str, last: u32) -> Result<Self, Fault> {
        Self::parse_up_to(text, last, CPU_LIMIT - 1)
    }

    fn parse_up_to(text: &str, last: u32, limit: u32) -> Result<Self, Fault> {
        // A list from a config may name every CPU a hundred thousand times: marks are cheap, nodes of a tree are not.
        let mut marked = vec![false; limit.saturating_add(1).min(CPU_LIMIT) as usize];
        for part in text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|part| !part.is_empty())
        {
            region(part, last, limit, &mut marked).map_err(|why| {
                Fault::new(Code::CpuList, format!("CPU list `{}`: `{}` {why}", cut(text), cut(part)))
            })?;
        }
        Ok((0..).zip(marked).filter_map(|(cpu, marked)| marked.then_some(cpu)).collect())
    }

    /// Parses a mask as the kernel prints and takes it: groups of at most 8 hex digits, commas between them, no `0x`.
    ///
    /// # Errors
    /// [`Code::CpuMask`] with the group that is wrong; a CPU list (`0-3`) is never taken for a mask silently.
    pub fn parse_mask(text: &str) -> Result<Self, Fault> {
        let bad = |group: &str| {
            let why = format!("CPU mask `{}`: `{group}` is not 1 to 8 hex digits", text.trim());
            Fault::new(Code::CpuMask, why)
        };
        let mut cpus = BTreeSet::new();
        for (index, group) in (0u32..).zip(text.trim().rsplit(',')) {
            let digits = (1..=8).contains(&group.len()) && group.bytes().all(|b| b.is_ascii_hexdigit());
            let bits = u32::from_str_radix(group, 16).ok().filter(|_| digits).ok_or_else(|| bad(group))?;
            cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| index * 32 + bit));
        }
        Ok(Self(cpus))
    }

    /// Whether there is no CPU in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest CPU number.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// The largest CPU number.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().copied()
    }

    /// Whether the CPU is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// The CPUs in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(&self.0 & &other.0)
    }

    /// The CPUs in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// Whether every CPU of it is in the other.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The CPUs that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    /// A mask as the kernel's hex files take it: groups of 32 bits, commas between them, no `0x`, wide enough for `last`,
    /// the largest possible CPU number. Un-comma'd masks of more than 8 digits are EOVERFLOW (`lib/bitmap-str.c`).
    #[must_use]
    pub fn hex_mask(&self, last: u32) -> String {
        let groups = last.max(self.last().unwrap_or(0)) / 32;
        let mut mask = String::new();
        for group in (0..=groups).rev() {
            let bits =
                self.0.range(group * 32..=group * 32 + 31).fold(0u32, |bits, cpu| bits | 1 << (cpu % 32));
            let comma = if group == 0 { "" } else { "," };
            // Writing to a String does not fail.
            let _ = write!(mask, "{bits:08x}{comma}");
        }
        mask
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

/// As its packed list.
impl serde::Serialize for CpuSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for CpuSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::parse(&text, CPU_LIMIT - 1).map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for CpuSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        let mut cpus = self.0.iter().copied().peekable();
        while let Some(start) = cpus.next() {
            let mut end = start;
            while let Some(next) = cpus.next_if(|next| Some(*next) == end.checked_add(1)) {
                end = next;
            }
            match end - start {
                0 => write!(f, "{comma}{start}")?,
                _ => write!(f, "{comma}{start}-{end}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// Checks a list without a machine at hand, where `N` can be any CPU; for `config check`.
///
/// # Errors
/// [`Code::CpuList`] with the part that is wrong, or when the list is empty.
pub fn check_syntax(text: &str) -> Result<(), Fault> {
    let set = CpuSet::parse(text, CPU_LIMIT - 1)?;
    if set.is_empty() {
        return Err(Fault::new(Code::CpuList, format!("CPU list `{}` names no CPU", cut(text))));
    }
    Ok(())
}

/// A list in a message: its first characters.
fn cut(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// One region: `N`, `a`, `a-b`, `all`, the last two also with `:used/group`.
fn region(part: &str, last: u32, limit: u32, marked: &mut [bool]) -> Result<(), String> {
    let (range, pattern) =
        part.split_once(':').map_or((part, None), |(range, pattern)| (range, Some(pattern)));
    let (start, end) = match range.split_once('-') {
        None if range == "all" => (0, last),
        None if pattern.is_some() => return Err("has a pattern but no range".to_owned()),
        None => (number(range, last)?, number(range, last)?),
        Some((start, end)) => (number(start, last)?, number(end, last)?),
    };
    let (used, group) = match pattern {
        None => (1, 1),
        Some(pattern) => {
            let (used, group) = pattern.split_once('/').ok_or("needs a pattern `used/group`")?;
            (number(used, CPU_LIMIT)?, number(group, CPU_LIMIT)?)
        }
    };
    if start > end {
        return Err("is a range that goes down".to_owned());
    }
    if end > limit.min(CPU_LIMIT - 1) {
        return Err(format!("is beyond the last possible CPU, {}", limit.min(CPU_LIMIT - 1)));
    }
    if group == 0 || used > group {
        return Err("has a pattern whose used part is larger than its group".to_owned());
    }
    let range = marked.get_mut(start as usize..=end as usize).unwrap_or_default();
    for group in range.chunks_mut(group as usize) {
        let used = group.len().min(used as usize);
        group[..used].fill(true);
    }
    Ok(())
}

fn number(text: &str, last: u32) -> Result<u32, String> {
    if text == "N" {
        return Ok(last);
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "is not a CPU number or range".to_owned())
}
