//! `tatara serve`: releases and configs over HTTPS with a CA of its own, and plain HTTP for firmware.
//!
//! The HTTPS side gives everything below the directory except dot files. The HTTP side is for firmware and iPXE that cannot do
//! our TLS: it gives only what a machine boots from and then verifies, never a config. Symbolic links are followed, because
//! releases are often linked into place; whoever can write to the directory decides what is served.

mod access_log;
mod authority;
mod files;
mod ipxe;
mod names;
#[cfg(test)]
mod tests;

pub use access_log::Log;

use crate::signals::Signals;
use anyhow::{Context, bail};
use authority::Authority;
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tatara_spec::release::Digest;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long requests may go on after a signal to end.
const GRACE: Duration = Duration::from_secs(5);

/// Serve releases and node configs over HTTPS, with a CA made for it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory with releases and `nodes/MAC.yaml`.
    dir: PathBuf,
    /// Address and port for HTTPS; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDR")]
    listen: SocketAddr,
    /// Address and port for plain HTTP, for firmware: kernel, initramfs, boot.ipxe and boot loaders only.
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<SocketAddr>,
    /// Names and addresses that machines reach this server by, beside those of this host; the first is used in URLs.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// Where the CA is kept [default: $XDG_STATE_HOME/tatara/serve].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Further kernel arguments for boot.ipxe.
    #[arg(long = "kernel-arg", value_name = "ARG", allow_hyphen_values = true)]
    kernel_args: Vec<String>,
}

/// What to serve, and where.
#[derive(Clone)]
pub struct Options {
    /// Directory that is served.
    pub dir: PathBuf,
    /// HTTPS; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Plain HTTP for firmware.
    pub http_listen: Option<SocketAddr>,
    /// Names and addresses for the certificate, beside those of this host; the first is used in URLs.
    pub names: Vec<String>,
    /// Where the CA is kept; `None` is `$XDG_STATE_HOME/tatara/serve`. Must not be below `dir`.
    pub state: Option<PathBuf>,
    /// Further kernel arguments for boot.ipxe.
    pub kernel_args: Vec<String>,
    /// Gets one line a request, without its line feed.
    pub log: Log,
}

impl Options {
    /// HTTPS on this address, everything else off; no access log.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            dir: dir.into(),
            listen,
            http_listen: None,
            names: Vec::new(),
            state: None,
            kernel_args: Vec::new(),
            log: Arc::new(|_| {}),
        }
    }
}

/// A running server. It ends when dropped; [`Server::stop`] lets requests finish first.
pub struct Server {
    runtime: Option<Runtime>,
    tasks: Vec<JoinHandle<std::io::Result<()>>>,
    stop: watch::Sender<bool>,
    dir: PathBuf,
    https: SocketAddr,
    http: Option<SocketAddr>,
    authority: Authority,
    kernel_arguments: Vec<String>,
}

impl Server {
    /// Starts the server; when it returns, the ports are open.
    ///
    /// # Errors
    /// When the directory is none, the state is below it, the CA cannot be made or read, or an address cannot be bound.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let dir = options
            .dir
            .canonicalize()
            .with_context(|| format!("opening the directory {}", options.dir.display()))?;
        if !dir.is_dir() {
            bail!("{} is not a directory", dir.display());
        }
        let state = options.state.clone().map_or_else(default_state, Ok)?;
        let authority = Authority::open(&outside(&state, &dir)?)?;
        let https = bind(options.listen)?;
        let http = options.http_listen.map(bind).transpose()?;
        let https_at = https.local_addr().context("asking for the port")?;
        let http_at =
            http.as_ref().map(TcpListener::local_addr).transpose().context("asking for the port")?;

        let hosts = names::hosts(&options.names, https_at);
        let kernel_arguments = ipxe::kernel_arguments(
            &names::url_host(&options.names, https_at),
            https_at.port(),
            authority.pin(),
            &options.kernel_args,
        );
        let script = ipxe::Script::new(&dir, &kernel_arguments);
        let tls = RustlsConfig::from_config(authority.tls_config(&hosts)?);
        let runtime = runtime()?;
        let (stop, stopped) = watch::channel(false);
        let app = files::https(&dir, script.clone(), options.log.clone());
        let mut tasks = vec![runtime.spawn(serve_https(https, tls, app, stopped.clone()))];
        if let Some(listener) = http {
            tasks.push(runtime.spawn(serve_http(listener, files::http(&dir, script, options.log), stopped)));
        }
        Ok(Self {
            runtime: Some(runtime),
            tasks,
            stop,
            dir,
            https: https_at,
            http: http_at,
            authority,
            kernel_arguments,
        })
    }

    /// Address and port of HTTPS.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// Address and port of plain HTTP.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// SHA-256 of the CA's DER SubjectPublicKeyInfo: what `tatara.ca=sha256:` wants.
    #[must_use]
    pub fn pin(&self) -> Digest {
        self.authority.pin()
    }

    /// The CA's certificate in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The kernel arguments by which a machine finds its config here: `tatara.config=`, `tatara.ca=` and the further ones.
    #[must_use]
    pub fn kernel_arguments(&self) -> &[String] {
        &self.kernel_arguments
    }

    /// The line that programs wait for.
    #[must_use]
    pub fn banner(&self) -> String {
        let http = self.http.map_or_else(|| "none".to_owned(), |address| address.to_string());
        format!(
            "tatara: serving https={} http={http} pin=sha256:{} dir={}",
            self.https,
            self.pin(),
            self.dir.display()
        )
    }

    /// Ends the server: no new connections, running requests have five seconds.
    ///
    /// # Errors
    /// When a listener had failed before.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let Some(runtime) = self.runtime.take() else { return Ok(()) };
        let mut outcome = Ok(());
        for task in self.tasks.drain(..) {
            let ended = runtime.block_on(task).context("waiting for the listener");
            outcome = outcome.and(ended.and_then(|result| result.context("serving")));
        }
        runtime.shutdown_timeout(GRACE);
        outcome
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed inside an async caller.
            runtime.shutdown_background();
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// As [`Server::start`], and when standard output is closed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let signals = runtime()?;
    // Listening begins before the line that programs wait for is out, so that none of them can signal too early.
    let ending = signals.block_on(async { Signals::listen() })?;
    let server = Server::start(Options {
        dir: args.dir,
        listen: args.listen,
        http_listen: args.http_listen,
        names: args.names,
        state: args.state,
        kernel_args: args.kernel_args,
        log: Arc::new(|line| eprintln!("{line}")),
    })?;
    println!("{}", server.banner());
    println!("kernel arguments: {}", server.kernel_arguments().join(" "));
    signals.block_on(ending.wait());
    server.stop()?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("serve")
        .enable_all()
        .build()
        .context("starting the runtime's threads")
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    listener.set_nonblocking(true).with_context(|| format!("preparing the socket of {address}"))?;
    Ok(listener)
}

async fn serve_https(
    listener: TcpListener,
    tls: RustlsConfig,
    app: Router,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let handle = Handle::new();
    let server = axum_server::from_tcp_rustls(listener, tls)?.handle(handle.clone());
    until_stopped(server.serve(app.into_make_service()), handle, stopped).await
}

async fn serve_http(
    listener: TcpListener,
    app: Router,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let handle = Handle::new();
    let server = axum_server::from_tcp(listener)?.handle(handle.clone());
    until_stopped(server.serve(app.into_make_service()), handle, stopped).await
}

/// Serves until told to stop, then lets requests finish.
async fn until_stopped(
    serving: impl Future<Output = std::io::Result<()>>,
    handle: Handle<SocketAddr>,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // The server goes first, because the handle reaches only one that was already polled.
        biased;
        result = &mut serving => return result,
        // An error says that the sender is gone, which means the same.
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    handle.graceful_shutdown(Some(GRACE));
    serving.await
}

/// `$XDG_STATE_HOME/tatara/serve`, or below `~/.local/state` (XDG Base Directory Specification).
fn default_state() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("tatara/serve"))
        .context("neither XDG_STATE_HOME nor HOME is set: say with --state where the CA is kept")
}

/// The state directory, made when it is not there; refused when it would be served.
fn outside(state: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(state)
        .with_context(|| format!("making the state directory {}", state.display()))?;
    let state =
        state.canonicalize().with_context(|| format!("opening the state directory {}", state.display()))?;
    if state.starts_with(dir) {
        bail!(
            "the state directory {} is below the served one, and the CA's key with it: choose another with --state",
            state.display()
        );
    }
    Ok(state)
}
