//! The measurement as a table.

use super::noise::{CpuNoise, Noise};
use std::fmt::Write as _;

pub(super) fn render(noise: &Noise) -> String {
    // Writing to a String cannot fail.
    let mut text = format!("\nnoise over {:.1} s under a busy loop; gaps in µs\n", noise.seconds);
    let _ = writeln!(
        text,
        "{:>5} {:<13}{:>8}{:>8}{:>8}{:>12}{:>10}",
        "cpu", "side", "tick", "ipi", "irq", "longest", "away %"
    );
    for cpu in &noise.cpus {
        let side = if cpu.isolated { "isolated" } else { "housekeeping" };
        let ipi: u64 = cpu.ipi.values().sum();
        let irq: u64 = cpu.irqs.values().map(|irq| irq.count).sum();
        let away = cpu.away_us / noise.seconds.max(1e-9) / 1e4;
        let _ = writeln!(
            text,
            "{:>5} {side:<13}{:>8}{ipi:>8}{irq:>8}{:>12.1}{away:>10.3}",
            cpu.cpu, cpu.tick, cpu.longest_gap_us
        );
    }
    noise.cpus.iter().for_each(|cpu| details(&mut text, cpu));
    text
}

fn details(text: &mut String, cpu: &CpuNoise) {
    for (irq, device) in &cpu.irqs {
        let _ = writeln!(text, "cpu {}: irq {irq}, {} times: {}", cpu.cpu, device.count, device.name);
    }
    let gaps: Vec<String> = (0u32..)
        .zip(&cpu.gaps)
        .filter(|(_, count)| **count > 0)
        .map(|(power, count)| format!("{}+: {count}", 1u64 << power))
        .collect();
    if !gaps.is_empty() {
        let _ = writeln!(text, "cpu {}: gaps {}", cpu.cpu, gaps.join(", "));
    }
}
