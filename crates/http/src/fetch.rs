//! Fetching over HTTPS: small files whole, large ones as a stream that survives resets.

mod fault;
mod queue;
mod stream;

pub use stream::{AHEAD, Attempt, Reader, Verdict};

use crate::backoff;
use crate::dns::Servers;
use fault::Target;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use rustls::ClientConfig;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tatara_spec::{Code, Fault, redact};
use tokio::runtime::Runtime;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// How the content of a file is known to be genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authenticity {
    /// By the connection alone: only https:// is taken.
    Connection,
    /// By a digest or a signature that is checked afterwards: http:// will do.
    Content,
}

/// The patience of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// For a TCP and TLS connection.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// For a small file as a whole, so that a server that drips does not hold the machine.
    pub whole: Duration,
    /// Before a stream's first retry; the waits grow from there to [`backoff::CAP`].
    pub first_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            whole: Duration::from_secs(60),
            first_retry: backoff::FIRST,
        }
    }
}

/// A small file to fetch whole.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Where it is.
    pub url: &'a str,
    /// What it is, for messages: `config`, `release manifest`.
    pub what: &'a str,
    /// The most that it may have, in bytes.
    pub limit: u64,
    /// How it is known to be genuine.
    pub authenticity: Authenticity,
}

/// What a server answered, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP, e.g. 404.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A large file of known size, to be streamed.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Where it is.
    pub url: String,
    /// What it is, for messages: `root image`.
    pub what: String,
    /// Its size in bytes, from the manifest.
    pub bytes: u64,
    /// How it is known to be genuine.
    pub authenticity: Authenticity,
}

/// An HTTP client for one link: its DNS servers and the CAs to trust.
pub struct Client {
    settings: Settings,
    http: reqwest::Client,
    runtime: Runtime,
}

/// What a client is made of; every runtime needs a client of its own, because connections live in the runtime.
#[derive(Debug, Clone)]
struct Settings {
    tls: Arc<ClientConfig>,
    dns: Servers,
    timing: Timing,
}

impl Client {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// [`Code::Sys`] when the kernel gives no event queue.
    pub fn new(tls: Arc<ClientConfig>, dns: Servers, timing: Timing) -> Result<Self, Fault> {
        let settings = Settings { tls, dns, timing };
        Ok(Self { http: settings.http()?, runtime: runtime()?, settings })
    }

    /// Fetches a small file.
    ///
    /// # Errors
    /// `E-NET-*`, `E-TLS-*` and `E-HTTP-*` by what happened; [`Code::UrlBad`] when the URL may not be used.
    pub fn get(&self, file: &File<'_>) -> Result<Vec<u8>, Fault> {
        let url = parse(file.url, file.authenticity)?;
        let target = Target::new(&format!("the {} could not be fetched", file.what), &url);
        self.runtime.block_on(async {
            let whole = self.settings.timing.whole;
            match tokio::time::timeout(whole, self.get_whole(&target, url, file.limit)).await {
                Ok(answer) => answer,
                Err(_) => {
                    Err(target
                        .reason(Code::HttpBody, format!("it was not complete after {} s", whole.as_secs())))
                }
            }
        })
    }

    /// Asks a question whose answer may be an error status: the status tells what is to be known. `bearer` is a credential for the header
    /// `Authorization` (RFC 6750), which only goes over https://.
    ///
    /// # Errors
    /// As [`Self::get`], but not for statuses.
    pub fn ask(&self, file: &File<'_>, bearer: Option<&str>) -> Result<Answer, Fault> {
        let url = parse(file.url, Authenticity::Connection)?;
        let target = Target::new(&format!("the {} could not be fetched", file.what), &url);
        self.runtime.block_on(async {
            let mut request =
                self.http.get(url).header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(bearer) = bearer {
                request = request.bearer_auth(bearer);
            }
            let mut answer = self.settings.within_stall(&target, request.send()).await?;
            let status = answer.status().as_u16();
            let mut body = Vec::new();
            self.body(&target, &mut answer, file.limit, &mut body).await?;
            Ok(Answer { status, body })
        })
    }

    /// Fetches a file of unknown size, piece by piece, into `sink`; gives its size in bytes.
    ///
    /// # Errors
    /// As [`Self::get`]; what `accept` says of the size, where the server tells it beforehand; [`Code::DiskWrite`] when the sink takes
    /// no more.
    pub fn save(
        &self,
        file: &File<'_>,
        accept: impl FnOnce(u64) -> Result<(), Fault>,
        sink: &mut dyn Write,
    ) -> Result<u64, Fault> {
        let url = parse(file.url, file.authenticity)?;
        let target = Target::new(&format!("the {} could not be fetched", file.what), &url);
        self.runtime.block_on(async {
            let mut answer = self.start(&target, url, file.limit).await?;
            answer.content_length().map_or(Ok(()), accept)?;
            self.body(&target, &mut answer, file.limit, sink).await
        })
    }

    async fn get_whole(&self, target: &Target, url: Url, limit: u64) -> Result<Vec<u8>, Fault> {
        let mut answer = self.start(target, url, limit).await?;
        let mut body = Vec::new();
        self.body(target, &mut answer, limit, &mut body).await?;
        Ok(body)
    }

    /// An answer with a good status and of a kind that can be a file.
    async fn start(&self, target: &Target, url: Url, limit: u64) -> Result<Response, Fault> {
        let request = self.http.get(url).header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answer = self.settings.within_stall(target, request.send()).await?;
        check(target, &answer)?;
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(target, limit));
        }
        Ok(answer)
    }

    async fn body(
        &self,
        target: &Target,
        answer: &mut Response,
        limit: u64,
        sink: &mut dyn Write,
    ) -> Result<u64, Fault> {
        let mut bytes = 0;
        while let Some(chunk) = self.settings.within_stall(target, answer.chunk()).await? {
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(too_large(target, limit));
            }
            sink.write_all(&chunk)
                .map_err(|error| target.reason(Code::DiskWrite, format!("it could not be kept: {error}")))?;
        }
        Ok(bytes)
    }

    /// Starts to stream a large file. A background thread reads ahead by at most [`AHEAD`] bytes, resumes where a
    /// connection broke, and asks `policy` after every failed attempt whether to go on (after [`Attempt::wait`]).
    ///
    /// # Errors
    /// [`Code::UrlBad`] when the URL may not be used, [`Code::Sys`] when no thread can be started. What goes wrong later
    /// comes out of `Read` as an [`std::io::Error`] that holds the [`Fault`] of the attempt after which the policy stopped.
    pub fn open(
        &self,
        artifact: &Artifact,
        policy: impl FnMut(&Attempt) -> Verdict + Send + 'static,
    ) -> Result<Reader, Fault> {
        let url = parse(&artifact.url, artifact.authenticity)?;
        stream::start(self.settings.clone(), url, artifact, Box::new(policy))
    }

    /// Posts a report. What the server answers is not read.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post_json(&self, url: &str, body: String) -> Result<(), Fault> {
        let url = parse(url, Authenticity::Connection)?;
        let target = Target::new("the report could not be posted", &url);
        let request = self.http.post(url).header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.runtime.block_on(async {
            let answer = self.settings.within_stall(&target, request.body(body).send()).await?;
            let status = answer.status();
            if status.is_success() { Ok(()) } else { Err(target.status(status)) }
        })
    }
}

impl Settings {
    fn http(&self) -> Result<reqwest::Client, Fault> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .dns_resolver(Arc::new(self.dns.clone()))
            .connect_timeout(self.timing.connect)
            .redirect(redirects())
            .referer(false)
            .no_proxy()
            .user_agent(concat!("tatara/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Fault::caused(Code::Tls, "the HTTP client could not be set up", e))
    }

    /// Waits for one answer or one piece of a body, at most the stall time.
    async fn within_stall<T>(
        &self,
        target: &Target,
        work: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Fault> {
        let limit = self.timing.stall;
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(|error| target.fault(&error)),
            Err(_) => {
                Err(target.reason(Code::NetConnect, format!("not a byte came for {} s", limit.as_secs())))
            }
        }
    }
}

fn too_large(target: &Target, limit: u64) -> Fault {
    target.reason(Code::HttpBody, format!("it is larger than {limit} bytes"))
}

fn runtime() -> Result<Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Fault::caused(Code::Sys, "the network runtime could not be started", e))
}

/// Reads a URL and refuses what must not be fetched.
fn parse(text: &str, authenticity: Authenticity) -> Result<Url, Fault> {
    let shown = redact::url(text);
    let url =
        Url::parse(text).map_err(|e| Fault::caused(Code::UrlBad, format!("`{shown}` is not a URL"), e))?;
    match (url.scheme(), authenticity) {
        ("https", _) | ("http", Authenticity::Content) => Ok(url),
        ("http", Authenticity::Connection) => Err(Fault::new(
            Code::UrlBad,
            format!("`{shown}`: nothing would prove over http:// that this file is genuine"),
        )),
        (scheme, _) => {
            Err(Fault::new(Code::UrlBad, format!("`{shown}`: {scheme}: is not https:// or http://")))
        }
    }
}

/// At most [`MAX_REDIRECTS`], and never from HTTPS to something else.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let secure = attempt.previous().first().is_none_or(|first| first.scheme() == "https");
        let message = if secure && attempt.url().scheme() != "https" {
            format!("the server redirects to {}, which is not HTTPS", redact::url(attempt.url().as_str()))
        } else if attempt.previous().len() > MAX_REDIRECTS {
            format!("the server redirects more than {MAX_REDIRECTS} times")
        } else {
            return attempt.follow();
        };
        attempt.error(Fault::new(Code::HttpRedirect, message))
    })
}

/// Refuses error statuses, web pages and compressed answers, none of which was asked for.
fn check(target: &Target, answer: &Response) -> Result<(), Fault> {
    if !answer.status().is_success() {
        return Err(target.status(answer.status()));
    }
    let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = header(CONTENT_TYPE);
    if kind.trim_start().to_ascii_lowercase().starts_with("text/html") {
        return Err(target.reason(Code::HttpBody, format!("the answer is a web page ({kind})")));
    }
    let encoding = header(CONTENT_ENCODING);
    if !encoding.is_empty() && encoding != "identity" {
        return Err(target.reason(
            Code::HttpBody,
            format!("the answer is compressed ({encoding}), which was not asked for"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
