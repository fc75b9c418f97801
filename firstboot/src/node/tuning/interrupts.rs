//! /proc/interrupts: how often each CPU was interrupted, and by what (proc_interrupts(5); kernel, `arch/x86/kernel/irq.c`).

use std::collections::BTreeMap;

/// Counts of one CPU since the boot, by row: `LOC`, `24`.
pub(super) type Counts = BTreeMap<String, u64>;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interrupts {
    /// Counts by CPU.
    pub(super) cpus: BTreeMap<u32, Counts>,
    /// What a row is: `Local timer interrupts`, `PCI-MSIX-0000:00:02.0 1-edge virtio0-input.0`.
    pub(super) names: BTreeMap<String, String>,
}

/// Reads it. Columns are the CPUs that are online; rows as `ERR` have one number and are no CPU's.
pub(super) fn parse(text: &str) -> Interrupts {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default().split_whitespace();
    let cpus: Vec<u32> = header.filter_map(|word| word.strip_prefix("CPU")?.parse().ok()).collect();
    let mut interrupts = Interrupts::default();
    for line in lines {
        let Some((row, rest)) = line.split_once(':') else { continue };
        let row = row.trim();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let counts: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).take(cpus.len()).collect();
        if counts.len() < cpus.len() {
            continue;
        }
        interrupts.names.insert(row.to_owned(), words[cpus.len()..].join(" "));
        for (cpu, count) in cpus.iter().zip(counts) {
            interrupts.cpus.entry(*cpu).or_default().insert(row.to_owned(), count);
        }
    }
    interrupts
}

/// What was added from one table to the next on a CPU; rows without change are left out.
pub(super) fn added(before: &Interrupts, after: &Interrupts, cpu: u32) -> Counts {
    let none = Counts::new();
    let old = before.cpus.get(&cpu).unwrap_or(&none);
    let new = after.cpus.get(&cpu).unwrap_or(&none);
    let change = |(row, count): (&String, &u64)| {
        let change = count.saturating_sub(*old.get(row).unwrap_or(&0));
        (change > 0).then(|| (row.clone(), change))
    };
    new.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::{added, parse};

    const BEFORE: &str = "           CPU0       CPU2       \n  0:         33          0   IO-APIC   2-edge      timer\n\
                          24:          0          7   PCI-MSIX-0000:00:02.0   1-edge      virtio0-input.0\n\
                          LOC:       2505         11   Local timer interrupts\nERR:          0\n";

    #[test]
    fn columns_are_the_online_cpus() {
        let table = parse(BEFORE);
        assert_eq!(table.cpus.keys().copied().collect::<Vec<_>>(), [0, 2]);
        assert_eq!((table.cpus[&2]["24"], table.cpus[&0]["LOC"]), (7, 2505));
        assert_eq!(table.names["24"], "PCI-MSIX-0000:00:02.0 1-edge virtio0-input.0");
        assert!(!table.names.contains_key("ERR"));
    }

    #[test]
    fn only_changes_are_added() {
        let after = BEFORE.replace("         11", "         14");
        let added = added(&parse(BEFORE), &parse(&after), 2);
        assert_eq!(added.into_iter().collect::<Vec<_>>(), [("LOC".to_owned(), 3)]);
    }
}
