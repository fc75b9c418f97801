//! What was measured: a value of ours beside one of theirs, and the ratio.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// One comparison.
struct Figure {
    name: &'static str,
    ours: f64,
    theirs: f64,
    unit: &'static str,
    runs: usize,
}

/// All of them, in order.
#[derive(Default)]
pub(crate) struct Figures {
    list: Vec<Figure>,
}

impl Figures {
    /// Adds a comparison. `theirs` is the rival's value, or a budget where there is no rival.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        ours: f64,
        theirs: f64,
        unit: &'static str,
        runs: usize,
    ) {
        println!("bench: {name}: ours {ours:.3} {unit}, theirs {theirs:.3}, ratio {:.2}", ours / theirs);
        self.list.push(Figure { name, ours, theirs, unit, runs });
    }

    /// Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text =
            "| what | ours | theirs | ratio | unit | runs |\n|---|---|---|---|---|---|\n".to_owned();
        for Figure { name, ours, theirs, unit, runs } in &self.list {
            let digits = match theirs {
                1000.0.. => 0,
                1.0.. => 2,
                _ => 3,
            };
            let ratio = if *theirs == 0.0 { "–".to_owned() } else { format!("{:.3}", ours / theirs) };
            text.push_str(&format!(
                "| {name} | {ours:.digits$} | {theirs:.digits$} | {ratio} | {unit} | {runs} |\n"
            ));
        }
        text
    }

    /// Writes `result.json` and `table.md`.
    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        let entries = self.list.iter().map(|f| {
            let value = json!({
                "ours": f.ours, "theirs": f.theirs, "ratio": f.ours / f.theirs, "unit": f.unit, "runs": f.runs,
            });
            (f.name.to_owned(), value)
        });
        let object: Value = Value::Object(entries.collect());
        fs::write(output.join("result.json"), serde_json::to_string_pretty(&object)?)
            .context("cannot write result.json")?;
        fs::write(output.join("table.md"), self.table()).context("cannot write table.md")
    }
}

/// The middle one of an odd number of values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
