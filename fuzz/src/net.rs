//! What servers answer: HTTP, DNS, SNTP.

use crate::check_refusal;
use hickory_resolver::proto::op::Message;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tatara_http::dns::Servers;
use tatara_http::fetch::{Artifact, Attempt, Authenticity, Client, File, Timing, Verdict};
use tatara_http::tls::Trust;
use tatara_init::clock;

/// What the web server answers to the next connections, in order; then nothing.
static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// One exchange at a time, whatever the threads of a test runner do.
static TURN: Mutex<()> = Mutex::new(());

/// A web server on loopback that answers each connection with bytes of the input and closes it.
static WEB: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&stream)));
    address
});

fn answer(mut stream: &TcpStream) {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = if answers.is_empty() { Vec::new() } else { answers.remove(0) };
    drop(answers);
    // The client may have seen enough.
    let _ = stream.write_all(&answer).and_then(|()| stream.shutdown(Shutdown::Write));
}

thread_local! {
    static CLIENT: Client = {
        let second = Duration::from_secs(1);
        let timing = Timing { connect: second, stall: second, whole: 2 * second, first_retry: Duration::from_micros(1) };
        let trust = Trust::default().client().expect("TLS");
        Client::new(trust, Servers::default(), timing).expect("a client")
    };
}

/// Redirects lead to other machines, and a fuzzer must not knock at their doors: none is followed.
fn without_redirects(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let name = b"location";
    for at in 0..bytes.len().saturating_sub(name.len() - 1) {
        if bytes[at..at + name.len()].eq_ignore_ascii_case(name) {
            bytes[at] = b'X';
        }
    }
    bytes
}

fn serve(answers: Vec<Vec<u8>>) {
    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = answers;
}

/// The answer to a request for a small file.
pub(crate) fn http(input: &[u8]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    serve(vec![without_redirects(input)]);
    let url = format!("http://{}/nodes/1.yaml", *WEB);
    let file = File { url: &url, what: "config", limit: 1000, authenticity: Authenticity::Content };
    match CLIENT.with(|client| client.get(&file)) {
        Ok(body) => assert!(body.len() <= 1000 && body.len() <= input.len()),
        Err(fault) => check_refusal(&fault),
    }
}

/// The answers to the requests for a large file, with `|` between them: the file or nothing comes out.
pub(crate) fn http_stream(input: &[u8]) {
    const BYTES: u64 = 64;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    serve(without_redirects(input).split(|byte| *byte == b'|').map(<[u8]>::to_vec).collect());
    let artifact = Artifact {
        url: format!("http://{}/root.erofs.zst", *WEB),
        what: "root image".to_owned(),
        bytes: BYTES,
        authenticity: Authenticity::Content,
    };
    let mut attempts = 0;
    let policy = move |attempt: &Attempt| {
        check_refusal(&attempt.fault);
        assert!(attempt.received <= BYTES);
        attempts += 1;
        if attempts < 3 { Verdict::Retry } else { Verdict::Stop }
    };
    let mut body = Vec::new();
    let mut reader = CLIENT.with(|client| client.open(&artifact, policy)).expect("a thread");
    let result = reader.read_to_end(&mut body);
    assert!(body.len() as u64 <= BYTES);
    assert_eq!(result.is_ok(), body.len() as u64 == BYTES, "{result:?} after {} bytes", body.len());
}

/// A DNS server's packet, in the words of the resolver's own parser.
pub(crate) fn dns(input: &[u8]) {
    let Ok(message) = Message::from_vec(input) else { return };
    // Names are compressed: a small packet must not become a large message.
    let text = format!("{message:?}");
    assert!(text.len() <= 4096 * (1 + input.len()), "{} bytes of text", text.len());
    let _ = message.to_vec();
}

/// What the time server answers next.
static TIME: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static TIME_SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut packet = [0; 64];
        while let Ok((count, from)) = socket.recv_from(&mut packet) {
            let mut answer = TIME.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The originate timestamp is the client's own (RFC 5905, section 7.3); without it nothing else is looked at.
            if let (48, Some(originate)) = (count, answer.get_mut(24..32)) {
                originate.copy_from_slice(&packet[40..48]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
});

/// A time server's packet: the clock that comes out is none from before the build.
pub(crate) fn sntp(input: &[u8]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    *TIME.lock().unwrap_or_else(PoisonError::into_inner) = input.to_vec();
    let servers = [TIME_SERVER.to_string()];
    let floor = SystemTime::now() - Duration::from_secs(3600);
    match clock::ask_servers(&servers, &Servers::default(), Duration::from_secs(1), floor) {
        Ok(measured) => {
            assert!(measured.offset_s.is_finite() && measured.offset_s > -3601.0, "{measured:?}");
        }
        Err(fault) => check_refusal(&fault),
    }
}
