//! A timeline as a drawing: one lane a step, kernels one after the other, gaps hatched. Self-contained SVG 1.1.

use super::timeline::{Row, end_of, rows, took};
use std::fmt::Write;
use tatara_spec::record::Timeline;

/// Pixels: height of a lane, width of the names, width of the time axis, space around.
const LANE: f64 = 18.0;
const NAMES: f64 = 260.0;
const AXIS: f64 = 900.0;
const MARGIN: f64 = 20.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#222}.t{font-size:11px;fill:#666}.grid{stroke:#ddd}\
.step{fill:#4472a8}.gap{fill:url(#hatch)}.kernel{stroke:#c33;stroke-dasharray:4 3}";

/// Where a lane is and what it is of.
struct Lane<'a> {
    row: Row<'a>,
    /// Seconds from power-on to the start of its kernel.
    offset_s: f64,
}

/// Draws it. Seconds go from the first kernel's start to the right.
pub(super) fn render(timeline: &Timeline) -> String {
    let mut lanes = Vec::new();
    let mut starts = Vec::new();
    let mut offset_s = 0.0;
    for steps in &timeline.kernels {
        starts.push(offset_s);
        lanes.extend(rows(steps).into_iter().map(|row| Lane { row, offset_s }));
        offset_s += end_of(steps);
    }
    let scale = AXIS / offset_s.max(0.001);
    let height = LANE * (lanes.len() as f64 + 1.0) + 2.0 * MARGIN;
    let width = NAMES + AXIS + 5.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>tatara boot timeline</title>\n<style>{STYLE}</style>\n\
         <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
         <path d=\"M0 6L6 0\" stroke=\"#bbb\"/></pattern></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    grid(&mut svg, offset_s, scale, height);
    for start in starts.iter().skip(1) {
        let x = NAMES + start * scale;
        let _ = writeln!(svg, "<path class=\"kernel\" d=\"M{x:.1} {MARGIN}V{:.1}\"/>", height - MARGIN);
    }
    for (index, lane) in lanes.iter().enumerate() {
        draw(&mut svg, lane, MARGIN + LANE * (index as f64 + 1.0), scale);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line every 1, 2, 5, 10, … seconds, at most about ten.
fn grid(svg: &mut String, total_s: f64, scale: f64, height: f64) {
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
    let every = steps.into_iter().find(|step| total_s / step <= 10.0).unwrap_or(1000.0);
    // As the counter is whole, rounding does not add up.
    for mark in 0..=10_u32 {
        let at_s = f64::from(mark) * every;
        if at_s > total_s {
            break;
        }
        let x = NAMES + at_s * scale;
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {MARGIN}V{:.1}\"/><text class=\"t\" x=\"{x:.1}\" y=\"{:.1}\">{at_s} s</text>",
            height - MARGIN,
            MARGIN - 4.0
        );
    }
}

fn draw(svg: &mut String, lane: &Lane<'_>, y: f64, scale: f64) {
    let (class, name, begin_s, took_s) = match &lane.row {
        Row::Gap { begin_s, end_s } => ("gap", "", *begin_s, end_s - begin_s),
        Row::Step(step) => ("step", step.name.as_str(), step.begin_s, took(step)),
    };
    let x = NAMES + (lane.offset_s + begin_s) * scale;
    // A moment is drawn too: two pixels.
    let width = (took_s * scale).max(2.0);
    let baseline = y + LANE * 0.7;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>\
         <text class=\"t\" x=\"{:.1}\" y=\"{baseline:.1}\">{took_s:.2} s</text>",
        NAMES - 8.0,
        escape(name),
        y + 3.0,
        LANE - 6.0,
        x + width + 4.0,
    );
}

/// Text content (XML 1.0, 2.4).
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::render;
    use tatara_spec::record::{StepTime, Timeline};

    fn step(name: &str, begin_s: f64, end_s: f64) -> StepTime {
        StepTime { name: name.into(), begin_s, end_s: Some(end_s) }
    }

    #[test]
    fn kernels_follow_each_other() {
        let timeline =
            Timeline { kernels: vec![vec![step("mounts", 0.0, 6.0)], vec![step("root", 0.0, 3.0)]] };
        let svg = render(&timeline);
        assert_eq!(svg.matches("class=\"step\"").count(), 2);
        // 9 s are 900 pixels; the second kernel starts at 6 s, right of the names.
        assert!(svg.contains("x=\"860.0\" y=\"59.0\" width=\"300.0\""), "{svg}");
        assert_eq!(svg.matches("class=\"kernel\"").count(), 1);
    }

    #[test]
    fn names_cannot_break_the_drawing() {
        let svg = render(&Timeline { kernels: vec![vec![step("<a&b>", 0.0, 1.0)]] });
        assert!(svg.contains("&lt;a&amp;b&gt;") && !svg.contains("<a&b>"), "{svg}");
    }
}
