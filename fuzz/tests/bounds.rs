//! The largest configs that are read at all, made to cost as much as they can: each is refused or taken within seconds.
//!
//! The fuzzer's inputs are small, so what grows with the square of the size does not show there.

use std::time::{Duration, Instant};
use tatara_fuzz::target;
use tatara_spec::config::SIZE_MAX_BYTES;

/// Unoptimised, on a slow machine; a millisecond for each KiB is what is left on a real one.
const PATIENCE: Duration = Duration::from_secs(20);

const HEAD: &str = "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: n}\n\
    install: {release: {url: release.json}, disk: {path: /dev/sda}}\n";

/// `start`, then `item` with its number for `#`, until the file is as large as it may be.
fn filled(start: &str, item: &str) -> String {
    let mut text = HEAD.to_owned() + start;
    for number in 0.. {
        let item = item.replace('#', &number.to_string());
        if text.len() + item.len() > SIZE_MAX_BYTES {
            break;
        }
        text.push_str(&item);
    }
    text
}

#[test]
fn a_mebibyte_costs_seconds_at_most() {
    let check = target("config").expect("the target").run;
    for (what, text) in [
        ("users", filled("users:\n", "  - {name: u#}\n")),
        (
            "interfaces below unknown ones",
            filled("network:\n  interfaces:\n", "    - {name: e#, vlan: {id: 1, parent: x#}}\n"),
        ),
        ("files", filled("files:\n", "  - {path: /etc/f#, content: x}\n")),
        ("the same user", filled("users:\n", "  - {name: u}\n")),
        ("unknown keys", filled("", "key#: x\n")),
        ("anchors", filled("users: [", "&a#,")),
        ("aliases", filled("users: [", "*a,")),
        ("a chain of aliases", filled("a0: &a0 [x, x, x]\n", "a: &a# [*a, *a, *a, *a]\n")),
        ("opened lists", filled("users: ", "[")),
        ("opened mappings", filled("users: ", "{a: ")),
        ("empty lists", filled("users: [", "[],")),
        ("a CPU list", filled("tuning: {isolation: static, housekeeping: {cpus: \"", "0-8191,") + "0\"}}\n"),
        ("a long word", filled("users: [{name: ", "x") + "}]\n"),
        ("a long key", filled("", "x") + ": y\n"),
        ("digits", filled("metadata2: {serial: ", "9") + "}\n"),
        ("a size", filled("tuning2: ", "9") + "G\n"),
        ("quotes", filled("files: [{path: \"", "\\u0007")),
        ("indentation", filled("users:\n", "\n ")),
        ("comments", filled("", "# x\n")),
        ("stars", filled("network: {interfaces: [{name: a, match: {name: \"", "*a") + "\"}}]}\n"),
    ] {
        let begun = Instant::now();
        check(text.as_bytes());
        let took = begun.elapsed();
        println!("{what}: {} bytes, {took:?}", text.len());
        assert!(took < PATIENCE, "{what} took {took:?}");
    }
}
