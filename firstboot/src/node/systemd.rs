//! What systemd says, by systemctl(1). Running it and understanding it are apart.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;
use tatara_spec::{Code, Fault};

/// A unit's properties by name, as `systemctl show` prints them.
pub(super) type Properties = BTreeMap<String, String>;

/// The manager's own properties.
pub(super) fn manager() -> Result<Properties, Fault> {
    Ok(parse(&systemctl(&["show"])?).into_iter().next().unwrap_or_default())
}

/// A unit that systemd has loaded, as `systemctl list-units --output=json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Unit {
    /// Its name.
    #[serde(rename = "unit")]
    pub(super) name: String,
    /// `active`, `failed`, …
    #[serde(rename = "active")]
    pub(super) state: String,
}

/// Every loaded unit. One question to systemd, where `systemctl show` has one for each unit and takes seconds.
pub(super) fn loaded() -> Result<Vec<Unit>, Fault> {
    parse_list(&systemctl(&["list-units", "--all", "--output=json"])?)
}

fn parse_list(json: &str) -> Result<Vec<Unit>, Fault> {
    serde_json::from_str(json)
        .map_err(|error| Fault::caused(Code::Sys, "understand systemctl list-units", error))
}

/// Properties of these units; a pattern stands for all that match it.
pub(super) fn units(names: &[&str], properties: &str) -> Result<Vec<Properties>, Fault> {
    let show = ["show", "--all", "--property", properties, "--"];
    Ok(parse(&systemctl(&[&show, names].concat())?))
}

/// Names of the failed units, sorted.
pub(super) fn failed() -> Result<Vec<String>, Fault> {
    let failed = loaded()?.into_iter().filter(|unit| unit.state == "failed");
    let mut names = failed.map(|unit| unit.name).collect::<Vec<_>>();
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
    use super::{Unit, parse, parse_list, seconds};

    /// As Debian 13's systemd 257 prints it.
    #[test]
    fn a_list_has_names_and_states() {
        let json = r#"[{"unit":"ssh.service","load":"loaded","active":"failed","sub":"failed","description":"OpenBSD Secure Shell server"}]"#;
        let unit = Unit { name: "ssh.service".into(), state: "failed".into() };
        assert_eq!(parse_list(json).unwrap(), [unit]);
        assert!(parse_list("0 loaded units listed.").is_err());
    }

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
