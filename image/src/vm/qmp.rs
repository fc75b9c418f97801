//! QEMU's machine protocol, as far as it is needed: one command at a time over a UNIX socket.
//! Source: QEMU `docs/interop/qmp-spec.rst`.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long QEMU may take to answer; emulation can be slow, the monitor is not.
const ANSWER: Duration = Duration::from_secs(20);

/// How often the socket is tried while QEMU starts.
const RETRY: Duration = Duration::from_millis(10);

/// A connection to a machine's monitor.
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects, waiting for QEMU to make the socket.
    ///
    /// # Errors
    /// When there is no monitor within 20 s.
    pub fn connect(socket: &Path) -> Result<Self> {
        let deadline = Instant::now() + ANSWER;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Err(e) => {
                    return Err(e).with_context(|| format!("cannot reach QEMU at {}", socket.display()));
                }
            }
        };
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        qmp.read()?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its answer; events in between are dropped.
    ///
    /// # Errors
    /// When QEMU refuses it or does not answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream.get_mut(), "{request}")
            .with_context(|| format!("cannot send `{command}` to QEMU"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses `{command}`: {}", error["desc"].as_str().unwrap_or("no reason given"));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let n = self.stream.read_line(&mut line).context("no answer from QEMU")?;
        if n == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU's answer is not JSON: {line}"))
    }
}
