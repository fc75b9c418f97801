//! The measurement as a drawing: a row a CPU, a column a power of two of a microsecond, darker for more gaps (a logarithmic
//! scale: one gap must be seen beside a million). Self-contained SVG 1.1.

use super::noise::{BUCKETS, Noise};
use std::fmt::Write as _;

/// Pixels: a cell, the names at the left, the tick counts at the right, space around.
const CELL: usize = 26;
const NAMES: usize = 150;
const COUNTS: usize = 120;
const MARGIN: usize = 30;

const STYLE: &str = "text{font:12px sans-serif;fill:#222}.t{font-size:10px;fill:#666}.c{stroke:#fff}";

pub(super) fn render(noise: &Noise) -> String {
    let width = 2 * MARGIN + NAMES + BUCKETS * CELL + COUNTS;
    let height = 2 * MARGIN + (noise.cpus.len() + 1) * CELL;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>Gaps on each CPU over {:.1} s</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        noise.seconds
    );
    for bucket in 0..BUCKETS {
        let x = MARGIN + NAMES + bucket * CELL;
        // Writing to a String cannot fail.
        let _ = writeln!(svg, "<text class=\"t\" x=\"{x}\" y=\"{MARGIN}\">{}</text>", scale(bucket));
    }
    let most = noise.cpus.iter().flat_map(|cpu| &cpu.gaps).copied().max().unwrap_or(0);
    for (row, cpu) in noise.cpus.iter().enumerate() {
        let y = MARGIN + (row + 1) * CELL;
        let side = if cpu.isolated { "isolated" } else { "housekeeping" };
        let baseline = y + CELL * 2 / 3;
        let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"{baseline}\">CPU {} {side}</text>", cpu.cpu);
        for (bucket, count) in cpu.gaps.iter().enumerate().filter(|(_, count)| **count > 0) {
            let x = MARGIN + NAMES + bucket * CELL;
            let _ = writeln!(
                svg,
                "<rect class=\"c\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"#c33\" fill-opacity=\"{:.2}\">\
                 <title>{count} gaps of {} and more</title></rect>",
                shade(*count, most),
                scale(bucket)
            );
        }
        let x = MARGIN + NAMES + BUCKETS * CELL + 10;
        let _ = writeln!(svg, "<text class=\"t\" x=\"{x}\" y=\"{baseline}\">{} ticks</text>", cpu.tick);
    }
    svg.push_str("</svg>\n");
    svg
}

/// 0.1 for one, 1 for the most.
fn shade(count: u64, most: u64) -> f64 {
    let share = (count as f64).ln_1p() / (most.max(1) as f64).ln_1p();
    0.1 + 0.9 * share
}

fn scale(bucket: usize) -> String {
    match bucket {
        0..10 => format!("{}µs", 1 << bucket),
        10..20 => format!("{}ms", 1 << (bucket - 10)),
        _ => format!("{}s", 1 << (bucket - 20)),
    }
}
