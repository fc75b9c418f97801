//! A web server that misbehaves as the test tells it: how it greets a connection, what it answers, where it stops.

use crate::pki::{Pki, Sends, VALID};
use crate::port::Port;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A reset throws away what the host's kernel has not sent yet: at most twice as many bytes (socket(7), SO_SNDBUF). Little beside half of
/// a root, and enough that no segment waits for a delayed acknowledgement.
const UNSENT_MAX_BYTES: usize = 64 << 10;

/// What becomes of one connection before a request is read.
#[derive(Clone)]
pub enum Greeting {
    /// TLS with this certificate.
    Tls(Arc<ServerConfig>),
    /// The answer of a server from before there was TLS 1.2, byte for byte: no such program is to be had any more.
    Tls11,
    /// Another server's, whose connection it becomes.
    Passed(SocketAddr),
}

/// What becomes of one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The file of that path.
    Right,
    /// This status, these header lines, this body.
    Says(&'static str, Vec<String>, Vec<u8>),
    /// The file, one byte in this time.
    Drips(Duration),
    /// The file, and a reset after one part in so many of what is still to come; a range that is asked for is honoured or not.
    Resets(usize, Ranges),
    /// The file from its begin, whatever was asked for.
    Whole,
}

/// Whether a server knows RFC 9110, section 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// Part of the file, when that is asked for.
    Honoured,
    /// Always the file from its begin.
    Ignored,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: String,
    /// The path, with its leading slash.
    pub path: String,
    /// Where the range asked for starts, in bytes.
    pub from: Option<usize>,
    /// Of a POST.
    pub body: Vec<u8>,
}

/// The server; it ends with the value.
pub struct Web {
    // Also while it is shut: nobody else is to answer there.
    port: Port,
    state: Arc<State>,
    running: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
    /// Its CA.
    pub pki: Pki,
}

struct State {
    root: PathBuf,
    usual: Mutex<Arc<ServerConfig>>,
    greetings: Mutex<VecDeque<Greeting>>,
    answers: Mutex<Vec<(String, VecDeque<Answer>)>>,
    log: Mutex<Vec<Request>>,
    /// A request came, or the server is to end.
    changed: Condvar,
    ending: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Web {
    /// Serves the directory over HTTPS on `bind`, on a port that is free, with a certificate for `name`.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(root: &Path, bind: IpAddr, name: &str) -> Self {
        let pki = Pki::default();
        let state = Arc::new(State {
            root: root.to_owned(),
            usual: Mutex::new(pki.server(name, VALID, Sends::Chain)),
            greetings: Mutex::default(),
            answers: Mutex::default(),
            log: Mutex::default(),
            changed: Condvar::new(),
            ending: AtomicBool::new(false),
        });
        let mut web = Self { port: Port::held(bind), state, running: None, pki };
        web.open();
        web
    }

    /// On loopback, which a machine in QEMU's user network reaches as 10.0.2.2.
    #[must_use]
    pub fn on_loopback(root: &Path) -> Self {
        Self::start(root, Ipv4Addr::LOCALHOST.into(), "10.0.2.2")
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Closes the port: connections are refused.
    ///
    /// # Panics
    /// When it was closed already.
    pub fn shut(&mut self) {
        let (thread, stop) = self.running.take().expect("it was open");
        stop.store(true, Ordering::SeqCst);
        // It waits for a connection. When that fails the port is closed, which is what is wanted.
        let _ = TcpStream::connect(self.port.address());
        thread.join().expect("the server's thread");
    }

    /// Opens the port again.
    ///
    /// # Panics
    /// When the kernel does not let it.
    pub fn open(&mut self) {
        self.run(TcpListener::bind(self.port.address()).expect("the port that is held"));
    }

    /// The next connections are greeted like this, then as usual.
    pub fn greets(&self, greetings: impl IntoIterator<Item = Greeting>) {
        lock(&self.state.greetings).extend(greetings);
    }

    /// What is usual from now on.
    pub fn usually(&self, tls: Arc<ServerConfig>) {
        *lock(&self.state.usual) = tls;
    }

    /// The next requests for paths that end so are answered like this, then rightly.
    pub fn answers(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state.answers).push((path.to_owned(), answers.into_iter().collect()));
    }

    /// The requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<Request> {
        lock(&self.state.log).clone()
    }

    /// Waits until so many requests for paths that end so have come.
    ///
    /// # Panics
    /// When they have not by the deadline.
    pub fn asked(&self, path: &str, times: usize, within: Duration) {
        let deadline = Instant::now() + within;
        let mut log = lock(&self.state.log);
        while log.iter().filter(|request| request.path.ends_with(path)).count() < times {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{path} was not asked for {times} times: {log:?}");
            log = self.state.changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn run(&mut self, listener: TcpListener) {
        let (state, stop) = (Arc::clone(&self.state), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&state);
                // A client that is gone is no fault of the test.
                std::thread::spawn(move || state.connection(stream).unwrap_or_default());
            }
        });
        self.running = Some((thread, stop));
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::SeqCst);
        self.state.changed.notify_all();
        if self.running.is_some() {
            self.shut();
        }
    }
}

impl State {
    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        let greeting = lock(&self.greetings).pop_front();
        let tls = match greeting {
            Some(Greeting::Tls(tls)) => tls,
            Some(Greeting::Tls11) => return tls11(stream),
            Some(Greeting::Passed(to)) => return pass(&stream, &TcpStream::connect(to)?),
            None => Arc::clone(&lock(&self.usual)),
        };
        // What is written goes out at once, so that no reset overtakes it.
        stream.set_nodelay(true)?;
        let socket = stream.try_clone()?;
        let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let request = read(&mut stream)?;
        let answer = self.next_answer(&request.path);
        lock(&self.log).push(request.clone());
        self.changed.notify_all();
        self.answer(&mut stream, &socket, &request, answer)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn next_answer(&self, path: &str) -> Answer {
        let mut answers = lock(&self.answers);
        let next = answers.iter_mut().filter(|(end, _)| path.ends_with(end));
        next.filter_map(|(_, queue)| queue.pop_front()).next().unwrap_or(Answer::Right)
    }

    fn answer(
        &self,
        to: &mut impl Write,
        socket: &TcpStream,
        request: &Request,
        answer: Answer,
    ) -> io::Result<()> {
        if let Answer::Says(status, headers, body) = answer {
            return respond(to, status, &headers, &body);
        }
        if request.method == "POST" {
            return respond(to, "204 No Content", &[], &[]);
        }
        let Ok(file) = fs::read(self.root.join(request.path.trim_start_matches('/'))) else {
            return respond(to, "404 Not Found", &[], &[]);
        };
        let from = match (&answer, request.from) {
            (Answer::Whole | Answer::Resets(_, Ranges::Ignored), _) | (_, None) => 0,
            (_, Some(from)) => from.min(file.len()),
        };
        let mut head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", file.len());
        if from > 0 {
            let (last, size) = (file.len().saturating_sub(1), file.len());
            head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{last}/{size}\r\n",
                size - from
            );
        }
        write!(to, "{head}connection: close\r\n\r\n")?;
        let rest = &file[from..];
        match answer {
            Answer::Drips(wait) => self.drip(to, rest, wait),
            Answer::Resets(part, _) => {
                rustix::net::sockopt::set_socket_send_buffer_size(socket, UNSENT_MAX_BYTES)?;
                to.write_all(&rest[..rest.len() / part])?;
                to.flush()?;
                // With this a close is a reset (socket(7), SO_LINGER).
                rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            _ => to.write_all(rest),
        }
    }

    /// A byte, then nothing for this long, and so on until the client or the server ends.
    fn drip(&self, to: &mut impl Write, bytes: &[u8], wait: Duration) -> io::Result<()> {
        for byte in bytes {
            to.write_all(&[*byte])?;
            to.flush()?;
            let going_on = |_: &mut _| !self.ending.load(Ordering::SeqCst);
            let log = lock(&self.log);
            drop(self.changed.wait_timeout_while(log, wait, going_on));
            if self.ending.load(Ordering::SeqCst) {
                break;
            }
        }
        Ok(())
    }
}

fn respond(to: &mut impl Write, status: &str, headers: &[String], body: &[u8]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    write!(to, "{head}\r\n")?;
    to.write_all(body)
}

/// Reads a request, with a POST's body.
fn read(from: &mut impl Read) -> io::Result<Request> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let lower = head.to_ascii_lowercase();
    let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length = value("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let range = value("range:").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    Ok(Request { method, path, from: range.and_then(|from| from.parse().ok()), body })
}

/// What OpenSSL answers when it may use nothing above TLS 1.1: a ServerHello with that version (RFC 5246, section 7.4.1.3).
/// Both ways, until either ends.
fn pass(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    std::thread::scope(|threads| {
        threads.spawn(|| io::copy(&mut &*client, &mut &*server).and(server.shutdown(Shutdown::Write)));
        io::copy(&mut &*server, &mut &*client).and(client.shutdown(Shutdown::Both))
    })
}

fn tls11(mut stream: TcpStream) -> io::Result<()> {
    /// Handshake record of version 3.2 with a ServerHello of 38 bytes: version 3.2, ...
    const HEAD: [u8; 11] = [22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    /// ... 32 random bytes, no session, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression.
    const TAIL: [u8; 4] = [0, 0xc0, 0x13, 0];
    let mut hello = [0; 4096];
    let _ = stream.read(&mut hello)?;
    stream.write_all(&[&HEAD[..], &[7; 32], &TAIL].concat())?;
    // The client has the last word: an alert, and the end.
    stream.read_to_end(&mut Vec::new()).map(drop)
}
