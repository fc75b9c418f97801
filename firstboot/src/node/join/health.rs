//! Whether the kubelet says that it is healthy.

use crate::node::system::System;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};
use tatara_spec::{Code, Fault};

/// kubeadm waits as long for the kubelet (Kubernetes, cmd/kubeadm/app/constants: kubelet health check timeout, 4 minutes).
const DEADLINE: Duration = Duration::from_secs(240);
const BETWEEN: Duration = Duration::from_millis(500);
/// For one question over the loopback.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until it does.
pub(super) fn wait(system: &System) -> Result<((), String), Fault> {
    until(system, DEADLINE)
}

fn until(system: &System, deadline: Duration) -> Result<((), String), Fault> {
    let begin = Instant::now();
    loop {
        let why = match ask(&system.kubelet_health) {
            Ok(status) if status.split(' ').nth(1) == Some("200") => {
                return Ok(((), "healthz=ok".to_owned()));
            }
            Ok(status) => format!("it answered `{status}`"),
            Err(error) => error.to_string(),
        };
        if begin.elapsed() >= deadline {
            let message = format!("the kubelet is not healthy after {} s: {why}", deadline.as_secs());
            return Err(Fault::new(Code::Kubelet, message));
        }
        std::thread::sleep(BETWEEN);
    }
}

/// The status line of the answer. Plain HTTP over the loopback, where nobody else listens.
fn ask(address: &str) -> std::io::Result<String> {
    let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /healthz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::until;
    use crate::node::system::System;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;
    use tatara_spec::Code;

    #[test]
    fn it_is_asked_until_it_is_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let system =
            System { kubelet_health: listener.local_addr().unwrap().to_string(), ..System::default() };
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.0 500 Internal Server Error", "HTTP/1.0 200 OK"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 64];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(format!("{answer}\r\n\r\nok").as_bytes()).unwrap();
            }
        });
        until(&system, Duration::from_secs(20)).unwrap();
        server.join().unwrap();
        let fault = until(&system, Duration::ZERO).unwrap_err();
        assert_eq!(fault.code, Code::Kubelet);
    }
}
