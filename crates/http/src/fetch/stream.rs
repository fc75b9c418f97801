//! A large file as `Read`: received by a thread of its own, read ahead within bounds, resumed after resets.

use super::fault::Target;
use super::queue::{Item, Queue};
use super::{Artifact, Settings, check, runtime};
use crate::backoff::{self, Backoff};
use bytes::{Buf as _, Bytes};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode, Url};
use std::io::{self, Read};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tatara_spec::{Code, Fault};
use tokio::sync::oneshot;

/// Bytes that are received before they are wanted: at 1 GB/s, what the disk may be busy for 10 ms; small in 512 MiB of memory.
pub const AHEAD: usize = 12 << 20;

/// A failed attempt to get (more of) a file.
#[derive(Debug)]
pub struct Attempt {
    /// Why it failed.
    pub fault: Fault,
    /// Attempts that failed since the last byte that came, this one included.
    pub failures: u32,
    /// Bytes of the file that have come so far.
    pub received: u64,
    /// How long the next attempt will be waited for.
    pub wait: Duration,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after the wait.
    Retry,
    /// Give up; the reader gets the attempt's fault.
    Stop,
}

/// Decides and reports.
pub(super) type Policy = Box<dyn FnMut(&Attempt) -> Verdict + Send>;

/// The bytes of a large file, in order, each once. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Reader {
    queue: Arc<Queue>,
    block: Bytes,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.block.is_empty() {
            match self.queue.pop() {
                Item::Block(block) => self.block = block,
                Item::End => return Ok(0),
                Item::Failed(fault) => return Err(io::Error::other(fault)),
            }
        }
        let length = buffer.len().min(self.block.len());
        self.block.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.queue.abandon();
        // The receiver is gone when the transfer has ended already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

pub(super) fn start(
    settings: Settings,
    url: Url,
    artifact: &Artifact,
    policy: Policy,
) -> Result<Reader, Fault> {
    let queue = Arc::new(Queue::new(AHEAD));
    let (stop, stopped) = oneshot::channel();
    let target = Target::new(&format!("the {} could not be fetched", artifact.what), &url);
    // Made here, so that what can fail at once does so in front of the caller.
    let (http, runtime) = (settings.http()?, runtime()?);
    let queued = Arc::clone(&queue);
    let mut transfer = Transfer {
        settings,
        http,
        url,
        target,
        size: artifact.bytes,
        received: 0,
        etag: None,
        queue: queued,
        policy,
    };
    let thread = std::thread::Builder::new()
        .name("fetch".to_owned())
        .spawn(move || runtime.block_on(transfer.run(stopped)))
        .map_err(|e| Fault::caused(Code::Sys, "a thread could not be started", e))?;
    Ok(Reader { queue, block: Bytes::new(), stop: Some(stop), thread: Some(thread) })
}

/// One file on its way, over as many connections as it takes.
struct Transfer {
    settings: Settings,
    http: reqwest::Client,
    url: Url,
    target: Target,
    /// The file's size in bytes.
    size: u64,
    /// Bytes handed to the queue.
    received: u64,
    /// The file's strong validator (RFC 9110 section 8.8.3), from the first answer.
    etag: Option<HeaderValue>,
    queue: Arc<Queue>,
    policy: Policy,
}

impl Transfer {
    async fn run(&mut self, stopped: oneshot::Receiver<()>) {
        let queue = Arc::clone(&self.queue);
        tokio::select! {
            result = self.all() => queue.end(result),
            _ = stopped => {}
        }
    }

    async fn all(&mut self) -> Result<(), Fault> {
        let mut backoff = Backoff::new(self.settings.timing.first_retry, backoff::CAP);
        loop {
            let before = self.received;
            let Err(fault) = self.attempt().await else {
                return Ok(());
            };
            if self.received > before {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            let attempt = Attempt { fault, failures: backoff.attempts(), received: self.received, wait };
            if (self.policy)(&attempt) == Verdict::Stop {
                return Err(attempt.fault);
            }
            tokio::time::sleep(attempt.wait).await;
        }
    }

    /// Gets what is missing over one connection.
    async fn attempt(&mut self) -> Result<(), Fault> {
        let mut request =
            self.http.get(self.url.clone()).header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.received > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.received));
            if let Some(etag) = &self.etag {
                request = request.header(IF_RANGE, etag.clone());
            }
        }
        let mut answer = self.settings.within_stall(&self.target, request.send()).await?;
        check(&self.target, &answer)?;
        let mut skip = self.position(&answer)?;
        while let Some(mut block) = self.settings.within_stall(&self.target, answer.chunk()).await? {
            let known = skip.min(block.len() as u64);
            skip -= known;
            block.advance(usize::try_from(known).unwrap_or(block.len()));
            // What is too much was not received: the next attempt goes on from where the file still was the file.
            if block.len() as u64 > self.size - self.received {
                return Err(self
                    .target
                    .reason(Code::HttpBody, format!("it is larger than {} bytes", self.size)));
            }
            self.received += block.len() as u64;
            if !self.queue.push(block) || self.received == self.size {
                return Ok(());
            }
        }
        if self.received == self.size {
            return Ok(());
        }
        Err(self.target.reason(
            Code::PayloadShort,
            format!("the answer ended after {} of {} bytes", self.received, self.size),
        ))
    }

    /// Checks that the answer is (the rest of) the same file; returns how many bytes of it have come before.
    fn position(&mut self, answer: &Response) -> Result<u64, Fault> {
        let etag = answer.headers().get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"));
        if let (Some(first), Some(now)) = (&self.etag, etag)
            && first != now
        {
            return Err(self
                .target
                .reason(Code::PayloadDigest, "it was changed on the server while it was read"));
        }
        if let (None, 0) = (&self.etag, self.received) {
            self.etag = etag.cloned();
        }
        let (start, size) = if answer.status() == StatusCode::PARTIAL_CONTENT {
            let header =
                answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
            content_range(header).filter(|(start, _)| *start == self.received).ok_or_else(|| {
                let asked = format!("bytes from {} were asked for, `{header}` came", self.received);
                self.target.reason(Code::HttpBody, asked)
            })?
        } else {
            (0, answer.content_length())
        };
        match size {
            Some(size) if size < self.size => Err(self.target.reason(
                Code::PayloadShort,
                format!("it has {size} bytes on the server, {} were expected", self.size),
            )),
            Some(size) if size > self.size => Err(self.target.reason(
                Code::HttpBody,
                format!("it has {size} bytes on the server, {} were expected", self.size),
            )),
            _ => Ok(self.received - start),
        }
    }
}

/// Start and, if known, size from `bytes START-END/SIZE` (RFC 9110 section 14.4).
pub(super) fn content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    Some((start.parse().ok()?, size))
}
