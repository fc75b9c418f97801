//! The last run of `pin` as metrics (Prometheus text format 0.0.4), for node_exporter's textfile collector.

use super::pin::{Outcome, PinReport};
use std::fmt::Write as _;

pub(super) fn render(report: &PinReport) -> String {
    let mut text = String::from(
        "# HELP tatara_pin_points Settings that keep work off the isolated CPUs, by what became of them.\n\
         # TYPE tatara_pin_points gauge\n",
    );
    for outcome in Outcome::ALL {
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "tatara_pin_points{{result=\"{}\"}} {}", outcome.name(), report.count(outcome));
    }
    text.push_str(
        "# HELP tatara_pin_point_failed A setting that could not be made.\n# TYPE tatara_pin_point_failed gauge\n",
    );
    for point in report.failed() {
        let (name, result) = (label(&point.name), point.outcome.name());
        let _ = writeln!(text, "tatara_pin_point_failed{{point=\"{name}\",result=\"{result}\"}} 1");
    }
    let _ = write!(
        text,
        "# HELP tatara_pin_duration_seconds How long the last run took.\n\
         # TYPE tatara_pin_duration_seconds gauge\ntatara_pin_duration_seconds {:.6}\n",
        report.took_s
    );
    text
}

/// A label's value: backslash, quote and line feed are escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::node::tuning::pin::{Outcome, PinReport, Pinned};
    use crate::node::tuning::point::Topic;

    #[test]
    fn every_result_has_a_line_and_names_are_escaped() {
        let point = Pinned {
            topic: Topic::Irq,
            name: "irq 5 (a\"b)".into(),
            outcome: Outcome::NoVectors,
            actual: "3".into(),
            wanted: "0".into(),
            error: None,
        };
        let report = PinReport { points: 3, as_wanted: 2, others: vec![point], took_s: 0.5 };
        let text = render(&report);
        assert!(text.contains("tatara_pin_points{result=\"as-wanted\"} 2\n"), "{text}");
        assert!(text.contains("tatara_pin_points{result=\"no-vectors\"} 1\n"), "{text}");
        assert!(text.contains("{point=\"irq 5 (a\\\"b)\",result=\"no-vectors\"} 1\n"), "{text}");
        let sample = |line: &str| {
            line.starts_with('#')
                || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok())
        };
        assert!(text.lines().all(sample), "{text}");
    }
}
