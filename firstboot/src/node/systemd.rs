//! What systemd says, by systemctl(1). Running it and understanding it are apart.

use std::collections::BTreeMap;
use std::process::Command;
use tatara_spec::{Code, Fault};

/// A unit's properties by name, as `systemctl show` prints them.
pub(super) type Properties = BTreeMap<String, String>;

/// The manager's own properties.
pub(super) fn manager() -> Result<Properties, Fault> {
    Ok(parse(&systemctl(&["show"])?).into_iter().next().unwrap_or_default())
}

/// Properties of every loaded unit that matches the pattern.
pub(super) fn units(pattern: &str, properties: &str) -> Result<Vec<Properties>, Fault> {
    Ok(parse(&systemctl(&["show", "--all", "--property", properties, pattern])?))
}

/// Names of the failed units, sorted.
pub(super) fn failed() -> Result<Vec<String>, Fault> {
    let units = units("*", "Id,ActiveState")?;
    let failed =
        units.into_iter().filter(|unit| unit.get("ActiveState").is_some_and(|state| state == "failed"));
    let mut names = failed.filter_map(|mut unit| unit.remove("Id")).collect::<Vec<_>>();
    names.sort();
    names.dedup();
    Ok(names)
}

fn systemctl(arguments: &[&str]) -> Result<String, Fault> {
    let output = Command::new("systemctl")
        .arg("--no-pager")
        .args(arguments)
        .output()
        .map_err(|error| Fault::caused(Code::Sys, "run systemctl", error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message =
            format!("systemctl {} ended with {}: {}", arguments.join(" "), output.status, said.trim());
        return Err(Fault::new(Code::Sys, message));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `NAME=VALUE` lines, an empty line between units.
pub(super) fn parse(text: &str) -> Vec<Properties> {
    let pairs = |block: &str| {
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        block.lines().filter_map(pair).collect::<Properties>()
    };
    text.split("\n\n").map(pairs).filter(|unit| !unit.is_empty()).collect()
}

/// A `…TimestampMonotonic` property in seconds since the kernel's start; `None` when the moment has not come (0).
pub(super) fn seconds(unit: &Properties, property: &str) -> Option<f64> {
    let microseconds = unit.get(property)?.parse::<u64>().ok().filter(|at| *at > 0)?;
    Some(microseconds as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::{parse, seconds};

    #[test]
    fn units_are_separated_by_empty_lines() {
        let units = parse("Id=a.service\nX=1=2\n\nId=b.service\n\n");
        assert_eq!(units.len(), 2);
        assert_eq!(units[0]["X"], "1=2");
        assert_eq!(units[1]["Id"], "b.service");
    }

    #[test]
    fn a_moment_that_has_not_come_is_none() {
        let unit = &parse("A=1500000\nB=0\nC=")[0];
        assert_eq!(seconds(unit, "A"), Some(1.5));
        assert_eq!((seconds(unit, "B"), seconds(unit, "C"), seconds(unit, "D")), (None, None, None));
    }
}
