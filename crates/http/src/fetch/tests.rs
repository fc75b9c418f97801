//! Servers that misbehave in every way that was met.

use super::*;
use crate::testing::{Pki, VALID, client, respond, serve};
use crate::tls::{Trust, pin};
use std::io::{Read as _, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex};

fn plain() -> Client {
    client(Trust::default())
}

/// Gets `/f` from a server on loopback, http, at most 1000 bytes.
fn get(answer: impl FnMut(usize, &str, &mut dyn Write) + Send + 'static) -> Result<Vec<u8>, Fault> {
    let url = format!("http://{}/f", serve(None, answer));
    plain().get(&File { url: &url, what: "manifest", limit: 1000, authenticity: Authenticity::Content })
}

fn refused(result: Result<Vec<u8>, Fault>, code: Code, text: &str) {
    let fault = result.unwrap_err();
    assert_eq!(fault.code, code, "{}", fault.chain());
    assert!(fault.chain().contains(text), "{}", fault.chain());
}

#[test]
fn gets_a_file_and_asks_for_it_as_it_is() {
    let body = get(|_, head, to| {
        assert!(head.to_ascii_lowercase().contains("accept-encoding: identity\r\n"), "{head}");
        respond(to, "200 OK", &[], head.lines().next().unwrap().as_bytes());
    });
    assert_eq!(body.unwrap(), b"GET /f HTTP/1.1");
}

#[test]
fn refuses_what_was_not_asked_for() {
    refused(get(|_, _, to| respond(to, "404 Not Found", &[], b"")), Code::HttpStatus, "404 Not Found");
    let page = ["content-type: Text/HTML; charset=utf-8"];
    refused(get(move |_, _, to| respond(to, "200 OK", &page, b"<html>")), Code::HttpBody, "web page");
    let bomb = ["content-encoding: gzip"];
    refused(get(move |_, _, to| respond(to, "200 OK", &bomb, b"x")), Code::HttpBody, "gzip");
    refused(get(|_, _, to| respond(to, "200 OK", &[], &[0; 1001])), Code::HttpBody, "larger than 1000");
}

#[test]
fn an_endless_answer_is_cut_at_the_limit() {
    let endless = get(|_, _, to| {
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while to.write_all(b"64\r\n").and_then(|()| to.write_all(&[b'x'; 102])).is_ok() {}
    });
    assert_eq!(endless.unwrap_err().code, Code::HttpBody);
}

#[test]
fn a_short_answer_and_a_silent_server_are_named() {
    let short = get(|_, _, to| to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").unwrap());
    refused(short, Code::HttpBody, "cut off");
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let silent = get(move |_, _, _| assert!(wait.lock().unwrap().recv().is_err()));
    refused(silent, Code::NetConnect, "not a byte");
    drop(done);
}

#[test]
fn a_closed_port_is_named() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let url = format!("http://user:secret@{port}/f");
    let file = File { url: &url, what: "config", limit: 1, authenticity: Authenticity::Content };
    let fault = plain().get(&file).unwrap_err();
    assert_eq!(fault.code, Code::NetConnect);
    assert!(fault.chain().contains(&format!("{port}: the connection was refused")), "{}", fault.chain());
    assert!(!fault.chain().contains("secret"), "{}", fault.chain());
}

#[test]
fn a_name_without_a_dns_server_is_a_dns_failure() {
    let file = File {
        url: "https://boot.example/c",
        what: "config",
        limit: 1,
        authenticity: Authenticity::Connection,
    };
    refused(plain().get(&file), Code::NetDns, "`boot.example`");
}

#[test]
fn a_url_is_refused_before_anything_is_sent() {
    let try_url = |url| {
        let file = File { url, what: "config", limit: 1, authenticity: Authenticity::Connection };
        plain().get(&file).unwrap_err().code
    };
    assert_eq!(try_url("http://127.0.0.1:1/"), Code::UrlBad);
    assert_eq!(try_url("ftp://127.0.0.1:1/"), Code::UrlBad);
    assert_eq!(try_url("no url"), Code::UrlBad);
}

#[test]
fn redirects_are_followed_within_limits() {
    let ok = get(|n, _, to| match n {
        0 => respond(to, "302 Found", &["location: /g"], b""),
        _ => respond(to, "200 OK", &[], b"there"),
    });
    assert_eq!(ok.unwrap(), b"there");
    let round = get(|_, _, to| respond(to, "302 Found", &["location: /f"], b""));
    refused(round, Code::HttpRedirect, "more than 5 times");
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let pki = Pki::new();
    let away = ["location: http://127.0.0.1:1/f"];
    let address =
        serve(Some(pki.server("127.0.0.1", VALID)), move |_, _, to| respond(to, "302 Found", &away, b""));
    let trust = Trust { pins: vec![pin(pki.root.der()).unwrap()], roots: Vec::new() };
    let url = format!("https://{address}/f");
    let file = File { url: &url, what: "image", limit: 9, authenticity: Authenticity::Content };
    refused(client(trust).get(&file), Code::HttpRedirect, "not HTTPS");
}

/// Bytes of a file whose every position can be told.
fn content() -> &'static [u8] {
    static CONTENT: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..400_000_u32).flat_map(u32::to_le_bytes).collect());
    &CONTENT
}

/// Where a request wants to start.
fn start_of(head: &str) -> Option<usize> {
    let head = head.to_ascii_lowercase();
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="))?;
    range.strip_suffix('-')?.parse().ok()
}

/// Streams [`content`]; the policy allows `retries` failures and the faults are returned with what came.
fn stream(
    retries: u32,
    answer: impl FnMut(usize, &str, &mut dyn Write) + Send + 'static,
) -> (Result<Vec<u8>, Fault>, Vec<Code>) {
    stream_noting(retries, || {}, answer)
}

/// As [`stream`]; `failed` is called after each failure.
fn stream_noting(
    retries: u32,
    mut failed: impl FnMut() + Send + 'static,
    answer: impl FnMut(usize, &str, &mut dyn Write) + Send + 'static,
) -> (Result<Vec<u8>, Fault>, Vec<Code>) {
    let url = format!("http://{}/root.erofs.zst", serve(None, answer));
    let artifact = Artifact {
        url,
        what: "root image".to_owned(),
        bytes: content().len() as u64,
        authenticity: Authenticity::Content,
    };
    let codes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&codes);
    let policy = move |attempt: &Attempt| {
        let mut seen = seen.lock().unwrap();
        seen.push(attempt.fault.code);
        failed();
        if seen.len() > retries as usize { Verdict::Stop } else { Verdict::Retry }
    };
    let mut body = Vec::new();
    let result = plain().open(&artifact, policy).unwrap().read_to_end(&mut body);
    let result =
        result.map(|_| body).map_err(|error| *error.into_inner().unwrap().downcast::<Fault>().unwrap());
    let codes = codes.lock().unwrap().clone();
    (result, codes)
}

/// The head of a whole answer, and only a part of the body.
fn partly(to: &mut dyn Write, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n", content().len());
    let _ = to.write_all(head.as_bytes()).and_then(|()| to.write_all(body));
}

#[test]
fn a_server_that_recovers_is_waited_for() {
    let (body, codes) = stream(9, |n, _, to| match n {
        0 | 1 => respond(to, "500 Internal Server Error", &[], b""),
        _ => respond(to, "200 OK", &[], content()),
    });
    assert!(body.unwrap() == content());
    assert_eq!(codes, [Code::HttpStatus; 2]);
}

#[test]
fn resumes_where_the_connection_broke() {
    let (body, codes) = stream(9, |n, head, to| {
        let all = content();
        match start_of(head) {
            None => partly(to, "etag: \"a\"\r\n", &all[..700_001]),
            Some(start) => {
                assert!(n > 0 && head.contains("if-range: \"a\""), "{head}");
                let range = format!("content-range: bytes {start}-{}/{}", all.len() - 1, all.len());
                respond(to, "206 Partial Content", &[&range, "etag: \"a\""], &all[start..]);
            }
        }
    });
    assert!(body.unwrap() == content());
    assert_eq!(codes, [Code::HttpBody]);
}

#[test]
fn starts_over_where_there_are_no_ranges_and_delivers_each_byte_once() {
    let (body, codes) = stream(9, |n, _, to| match n {
        0 => partly(to, "", &content()[..700_001]),
        _ => respond(to, "200 OK", &[], content()),
    });
    assert!(body.unwrap() == content());
    assert_eq!(codes.len(), 1);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_mixed() {
    let (body, codes) = stream(1, |n, _, to| match n {
        0 => partly(to, "etag: \"a\"\r\n", &content()[..700_001]),
        _ => partly(to, "etag: \"b\"\r\n", content()),
    });
    let fault = body.unwrap_err();
    assert_eq!(fault.code, Code::PayloadDigest, "{}", fault.chain());
    assert_eq!(codes, [Code::HttpBody, Code::PayloadDigest]);
}

#[test]
fn sizes_and_ranges_that_do_not_fit_are_refused() {
    let (short, _) = stream(0, |_, _, to| respond(to, "200 OK", &[], b"short"));
    assert_eq!(short.unwrap_err().code, Code::PayloadShort);
    let (long, _) = stream(0, |_, _, to| respond(to, "200 OK", &[], &[content(), content()].concat()));
    assert_eq!(long.unwrap_err().code, Code::HttpBody);
    let (elsewhere, codes) = stream(1, |n, _, to| match n {
        0 => partly(to, "", &content()[..700_001]),
        _ => respond(to, "206 Partial Content", &["content-range: bytes 5-9/1600000"], b"abcde"),
    });
    assert!(elsewhere.unwrap_err().chain().contains("`bytes 5-9/1600000` came"));
    assert_eq!(codes, [Code::HttpBody; 2]);
}

/// Once an answer was too long, nothing of its end may count as received, or no later answer would do.
#[test]
fn a_server_that_sent_too_much_once_is_forgiven() {
    let (body, codes) = stream(9, |n, head, to| match n {
        0 => {
            let _ = to
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
                .and_then(|()| to.write_all(&[content(), b"more"].concat()));
        }
        _ => {
            let all = content();
            let start = start_of(head).unwrap_or_default();
            assert!(start <= all.len(), "{head}");
            let range = format!("content-range: bytes {start}-{}/{}", all.len() - 1, all.len());
            respond(to, "206 Partial Content", &[&range], &all[start..]);
        }
    });
    assert!(body.unwrap() == content());
    assert!(codes.len() <= 1, "{codes:?}");
}

#[test]
fn a_stalled_stream_is_resumed() {
    let (failed, wait) = std::sync::mpsc::channel();
    let note = move || failed.send(()).unwrap_or_default();
    let (body, codes) = stream_noting(9, note, move |n, _, to| match n {
        // Silence until the client has given up on this connection.
        0 => {
            partly(to, "", &content()[..700_001]);
            wait.recv().unwrap();
        }
        _ => respond(to, "200 OK", &[], content()),
    });
    assert!(body.unwrap() == content());
    assert_eq!(codes, [Code::NetConnect]);
}

#[test]
fn dropping_the_reader_ends_the_transfer() {
    let url = format!("http://{}/f", serve(None, |_, _, to| respond(to, "503 Busy", &[], b"")));
    let artifact =
        Artifact { url, what: "image".to_owned(), bytes: 1 << 40, authenticity: Authenticity::Content };
    let (failed, seen) = std::sync::mpsc::channel();
    let policy = move |attempt: &Attempt| {
        let _ = failed.send(attempt.failures);
        Verdict::Retry
    };
    let reader = plain().open(&artifact, policy).unwrap();
    assert_eq!(seen.recv().unwrap(), 1);
    drop(reader);
    // The policy went with the transfer's thread: the channel ends.
    while seen.recv().is_ok() {}
}

#[test]
fn a_report_is_posted() {
    let pki = Pki::new();
    let (sent, got) = std::sync::mpsc::channel();
    let address = serve(Some(pki.server("127.0.0.1", VALID)), move |_, head, to| {
        sent.send(head.to_owned()).unwrap();
        respond(to, "204 No Content", &[], b"");
    });
    let trust = Trust { pins: vec![pin(pki.root.der()).unwrap()], roots: Vec::new() };
    client(trust).post_json(&format!("https://{address}/report"), "{}".to_owned()).unwrap();
    let head = got.recv().unwrap();
    assert!(head.starts_with("POST /report HTTP/1.1\r\n") && head.contains("application/json"), "{head}");
}

#[test]
fn content_ranges() {
    assert_eq!(stream::content_range("bytes 5-9/10"), Some((5, Some(10))));
    assert_eq!(stream::content_range("bytes 5-9/*"), Some((5, None)));
    assert_eq!(stream::content_range("bytes */10"), None);
    assert_eq!(stream::content_range(""), None);
}
