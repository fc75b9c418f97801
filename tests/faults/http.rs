//! Web servers that misbehave, and what stands between them and the machine.

use crate::site::{CONFIG, Site, config, gets_its_config, installs, start};
use std::time::Duration;
use support::config::NodeYaml;
use support::web::{Answer, Ranges};
use tatara_spec::Code;

fn status(line: &'static str) -> Answer {
    Answer::Says(line, Vec::new(), b"<h1>no</h1>".to_vec())
}

fn says(headers: &[&str], body: &[u8]) -> Answer {
    Answer::Says("200 OK", headers.iter().map(|&header| header.to_owned()).collect(), body.to_vec())
}

/// The machine reports each failure where `tatara.report=` says, once there is a way there.
#[test]
fn error_statuses_then_served() {
    let mut site = Site::new();
    let report = format!("tatara.report={}", site.url("/report"));
    let mut trial = site.trial("network", "no fault: the config is served at last", &report);
    site.web.answers(
        CONFIG,
        [status("404 Not Found"), status("500 Internal Server Error"), status("503 Service Unavailable")],
    );
    site.web.shut();
    let guest = start(&trial);
    trial.fails(&guest, "the connection is refused", Code::NetConnect, &["the connection was refused"]);
    site.web.open();
    for (done, says) in
        [("404", "404 Not Found"), ("500", "500 Internal Server Error"), ("503", "503 Service Unavailable")]
    {
        trial.fails(&guest, done, Code::HttpStatus, &[says, &site.url(CONFIG)]);
    }
    guest.expect("step=config state=ok", Duration::from_secs(60));
    let posted: Vec<serde_json::Value> = site
        .web
        .log()
        .iter()
        .filter(|request| request.method == "POST" && request.path == "/report")
        .map(|request| serde_json::from_slice(&request.body).expect("the failure record"))
        .collect();
    // The first failure had no way to the server.
    assert_eq!(posted.len(), 3, "{posted:?}");
    for (attempt, record) in (2..).zip(&posted) {
        assert_eq!(record["code"], "E-HTTP-STATUS");
        assert_eq!(record["step"], "config");
        assert_eq!(record["attempt"], attempt);
        assert_eq!(record["hint"], Code::HttpStatus.hint());
    }
    trial.ends(guest, support::trial::Disks::Irrelevant);
}

#[test]
fn answers_that_are_not_the_config() {
    let site = Site::new();
    let mut trial = site.trial("network", "no fault: the config is served at last", "");
    let away = format!("location: http://10.0.2.2:{}{CONFIG}", site.web.port());
    let portal = b"<html><title>Welcome to the hotel</title></html>";
    // 10 MB of zeros in 10 kB; it is never unpacked.
    let bomb = zeros_in_gzip();
    site.web.answers(
        CONFIG,
        [
            Answer::Says("302 Found", vec![away], Vec::new()),
            says(&["content-type: text/html; charset=utf-8"], portal),
            says(&["content-encoding: gzip"], &bomb),
            says(&[], &vec![b'#'; 5_000_000]),
            Answer::Resets(2, Ranges::Ignored),
            says(&[], portal),
        ],
    );
    let guest = start(&trial);
    trial.fails(&guest, "a redirect to HTTP", Code::HttpRedirect, &["http://10.0.2.2", "not HTTPS"]);
    trial.fails(&guest, "a captive portal", Code::HttpBody, &["web page (text/html"]);
    trial.fails(&guest, "a gzip bomb", Code::HttpBody, &["compressed (gzip)"]);
    trial.fails(&guest, "a config of 5 MB", Code::HttpBody, &["larger than 1048576 bytes"]);
    trial.fails(&guest, "a reset after half of the config", Code::HttpBody, &["cut off"]);
    trial.fails(
        &guest,
        "a web page that does not say so",
        Code::ConfigInvalid,
        &["node.yaml:1:1: not a NodeConfig"],
    );
    gets_its_config(trial, guest);
}

/// A gzip stream (RFC 1952) of zeros, by gzip.
fn zeros_in_gzip() -> Vec<u8> {
    let script = "head -c 10000000 /dev/zero | gzip";
    let output = std::process::Command::new("sh").args(["-c", script]).output().expect("gzip");
    assert!(output.stdout.len() > 1000, "gzip gave {} bytes", output.stdout.len());
    output.stdout
}

#[test]
fn one_byte_a_second() {
    let site = Site::new();
    let mut trial = site.trial("network", "no fault: the config is served at last", "");
    site.web.answers(CONFIG, [Answer::Drips(Duration::from_secs(1))]);
    let guest = start(&trial);
    trial.fails(&guest, "one byte a second", Code::HttpBody, &["not complete after 60 s"]);
    gets_its_config(trial, guest);
}

#[test]
fn resets_in_the_middle_of_the_root() {
    let site = Site::new();
    let trial = site.trial("network", "the root reset after half, with and without ranges", "");
    let root = "/root.erofs.zst";
    site.web.answers(
        root,
        [
            // The first frame, before anything is written; it is a small part of the root.
            Answer::Resets(16, Ranges::Honoured),
            Answer::Right,
            // The whole of it.
            Answer::Resets(2, Ranges::Honoured),
            Answer::Resets(2, Ranges::Ignored),
            Answer::Whole,
        ],
    );
    let guest = start(&trial);
    installs(trial, guest);
    let asked: Vec<Option<usize>> = site
        .web
        .log()
        .iter()
        .filter(|request| request.path.ends_with(root))
        .map(|request| request.from)
        .collect();
    let size = std::fs::metadata(site.file("release/root.erofs.zst")).expect("the root").len();
    let size = usize::try_from(size).expect("its size");
    // What had come was kept, as far as a reset lets it come, and went on from there, also where a server knows no ranges.
    let [None, Some(first), None, Some(second), Some(third)] = asked[..] else {
        panic!("{asked:?} of {size}");
    };
    assert!(first > size / 32 && second > size / 4 && third >= second, "{asked:?} of {size}");
}

/// A config that says where failures are reported is asked too, when the command line does not.
#[test]
fn the_config_says_where_failures_go() {
    let site = Site::new();
    let wrong = NodeYaml { disk: "{transport: nvme}".to_owned(), ..config() };
    let yaml = wrong.with(&format!("report: {{url: \"{}\"}}\n", site.url("/failures")));
    site.put(CONFIG, yaml.text().as_bytes());
    let mut trial = site.trial("network", "a failure after the config, which names a report URL", "");
    let guest = start(&trial);
    trial.fails(
        &guest,
        "a failure after the config, which names a report URL",
        Code::DiskNone,
        &["/dev/vda"],
    );
    let log = site.web.log();
    let posted = log.iter().find(|request| request.path == "/failures").expect("a report");
    let record: serde_json::Value = serde_json::from_slice(&posted.body).expect("the failure record");
    assert_eq!((record["code"].as_str(), record["step"].as_str()), (Some("E-DISK-NONE"), Some("plan")));
    trial.ends(guest, support::trial::Disks::Untouched);
}
