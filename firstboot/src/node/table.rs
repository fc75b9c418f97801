//! A timeline as a table with bars.

use super::timeline::{Row, end_of, rows, took};
use std::fmt::Write;
use tatara_spec::record::Timeline;

/// Width of the bars in columns: with the numbers and names it fits into 100.
const BAR: usize = 40;

/// One block a kernel, each on the scale of the longest.
pub(super) fn render(timeline: &Timeline) -> String {
    let mut text = String::new();
    let scale_s = timeline.kernels.iter().map(|steps| end_of(steps)).fold(0.0, f64::max);
    let count = timeline.kernels.len();
    for (index, steps) in timeline.kernels.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "kernel {} of {count}, {:.3} s", index + 1, end_of(steps));
        let _ = writeln!(text, "{:>9} {:>9} {:>8}  step", "begin", "end", "took");
        for row in rows(steps) {
            line(&mut text, &row, scale_s);
        }
    }
    if count == 0 {
        text.push_str("no step is on record\n");
    }
    text
}

fn line(text: &mut String, row: &Row<'_>, scale_s: f64) {
    let (name, begin_s, end_s, took_s, mark) = match row {
        Row::Gap { begin_s, end_s } => ("(nothing on record)", *begin_s, Some(*end_s), end_s - begin_s, '.'),
        Row::Step(step) => (step.name.as_str(), step.begin_s, step.end_s, took(step), '#'),
    };
    let end = end_s.map_or_else(|| "-".to_owned(), |end| format!("{end:.3}"));
    let from = column(begin_s, scale_s);
    let to = column(end_s.unwrap_or(begin_s), scale_s).max(from + 1);
    let bar = format!("{}{}", " ".repeat(from), mark.to_string().repeat(to - from));
    let row = format!("{begin_s:>9.3} {end:>9} {took_s:>8.3}  {name:<32.32} {bar}");
    let _ = writeln!(text, "{}", row.trim_end());
}

/// Column of a moment, 0 to [`BAR`].
fn column(at_s: f64, scale_s: f64) -> usize {
    if scale_s <= 0.0 {
        return 0;
    }
    // Saturating: a negative or endless time ends at the border.
    ((at_s / scale_s * BAR as f64) as usize).min(BAR)
}

#[cfg(test)]
mod tests {
    use super::render;
    use tatara_spec::record::{StepTime, Timeline};

    #[test]
    fn bars_show_begin_and_length() {
        let steps = vec![
            StepTime { name: "mounts".into(), begin_s: 1.0, end_s: Some(2.0) },
            StepTime { name: "drivers".into(), begin_s: 2.0, end_s: Some(4.0) },
            StepTime { name: "failed".into(), begin_s: 4.0, end_s: None },
        ];
        let text = render(&Timeline { kernels: vec![steps] });
        let lines = text.lines().collect::<Vec<_>>();
        assert_eq!(lines[0], "kernel 1 of 1, 4.000 s");
        assert!(lines[2].contains("(nothing on record)") && lines[2].ends_with(" .........."), "{text}");
        assert!(lines[3].ends_with(&format!("{}{}", " ".repeat(10), "#".repeat(10))), "{text}");
        assert!(lines[4].ends_with(&"#".repeat(20)), "{text}");
        assert!(lines[5].contains("     -"), "{text}");
    }

    #[test]
    fn an_empty_timeline_says_so() {
        assert_eq!(render(&Timeline::default()), "no step is on record\n");
    }
}
