//! `make faults`: the rows that passed, as the table in docs/faults.md.

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (rows, output) = (args.next(), args.next());
    let (rows, output) = rows.zip(output).context("usage: faults ROWS OUTPUT")?;
    let mut list = Vec::new();
    for entry in fs::read_dir(&rows).with_context(|| format!("cannot read {}", rows.display()))? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        list.push(serde_json::from_slice::<Value>(&text).with_context(|| path.display().to_string())?);
    }
    list.sort_by_key(|row| (text(row, "area"), text(row, "test"), row["order"].as_u64()));
    let table = table(&list);
    print!("{table}");
    fs::write(&output, page(&table)).with_context(|| format!("cannot write {}", output.display()))
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

fn table(rows: &[Value]) -> String {
    let mut table =
        "| area | what is done | code | disk | s | test |\n|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let codes: Vec<&str> =
            row["codes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let [area, done, disks, test] = ["area", "done", "disks", "test"].map(|key| text(row, key));
        let seconds = &row["seconds"];
        // A string takes any text.
        let _ =
            writeln!(table, "| {area} | {done} | {} | {disks} | {seconds} | `{test}` |", codes.join(", "));
    }
    table
}

fn page(table: &str) -> String {
    format!(
        "# What goes wrong, and what the machine does then\n\n\
         Written by `make faults`. Each row is a test of that name in `tests/faults/` and runs in `make test`, which of the power \
         cuts takes some, by a seed; `make faults` takes all: a machine in QEMU to which that is done. It shows the code, with its hint \
         ([errors.md](errors.md)), on every console, and tries again. \
         \"untouched\" means that all blocks of the disk are, by their digest, what they were before. Seconds are of an emulated machine.\n\n{table}"
    )
}
