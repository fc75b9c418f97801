//! Whether the kubelet says that it is healthy.

use crate::node::system::{self, System};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::Command;
use std::time::{Duration, Instant};
use tatara_spec::{Code, Fault};

/// kubeadm waits as long for the kubelet (Kubernetes, cmd/kubeadm/app/constants: kubelet health check timeout, 4 minutes).
const DEADLINE: Duration = Duration::from_secs(240);
const BETWEEN: Duration = Duration::from_millis(500);
/// For one question over the loopback.
const PATIENCE: Duration = Duration::from_secs(5);

/// Enough for the stacks of all its threads, which older kubelets print when they end (klog, `Fatal`).
const JOURNAL_LINES: &str = "--lines=1500";
/// Of its own lines that a message has.
const WORDS: usize = 3;

/// Waits until it does.
pub(super) fn wait(system: &System) -> Result<((), String), Fault> {
    until(system, DEADLINE).map_err(|fault| in_its_words(system, fault))
}

/// Whether it says so now.
pub(super) fn is_healthy(system: &System) -> bool {
    ask(&system.kubelet_health).is_ok_and(|status| is_good(&status))
}

/// The failure, with what the kubelet says itself, where the journal has it.
pub(super) fn in_its_words(system: &System, fault: Fault) -> Fault {
    let mut command = Command::new(&system.journalctl);
    command.args(["--boot", "--no-pager", "--quiet", "--output=cat", JOURNAL_LINES]);
    let said = system::run(command.arg("_SYSTEMD_UNIT=kubelet.service"), |_| ());
    match said.ok().filter(|finished| finished.status.success()).and_then(|finished| errors(&finished.said)) {
        Some(words) => Fault { message: format!("{}; the kubelet says: {words}", fault.message), ..fault },
        None => fault,
    }
}

/// The last different errors in a kubelet's log: lines of klog with severity E or F (`F1121 18:40:59.1 77 server.go:269] why`), and
/// what `tatara-node kubelet` says before it starts.
fn errors(log: &str) -> Option<String> {
    let mut words: Vec<&str> = Vec::new();
    for line in log.lines() {
        let head = line.as_bytes();
        let klog = head.len() > 5 && b"EF".contains(&head[0]) && head[1..5].iter().all(u8::is_ascii_digit);
        let error = match line.split_once("] ") {
            Some((_, error)) if klog => error.trim(),
            _ if line.starts_with("tatara-node: E-") => line.trim(),
            _ => continue,
        };
        words.retain(|earlier| *earlier != error);
        words.push(error);
    }
    let from = words.len().saturating_sub(WORDS);
    (!words.is_empty()).then(|| words[from..].join(" / "))
}

fn until(system: &System, deadline: Duration) -> Result<((), String), Fault> {
    let begin = Instant::now();
    loop {
        let why = match ask(&system.kubelet_health) {
            Ok(status) if is_good(&status) => {
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

fn is_good(status: &str) -> bool {
    status.split(' ').nth(1) == Some("200")
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
    use super::{errors, until};
    use crate::node::system::System;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;
    use tatara_spec::Code;

    /// A kubelet that is started again every ten seconds says the same each time, between stacks.
    #[test]
    fn errors_are_picked_from_a_kubelets_log() {
        let once = "I1121 18:40:58.1   76 server.go:411] Version: v1.20.2\n\
             F1121 18:40:59.123456      77 server.go:257] invalid configuration: MaxPods (--max-pods) -1 must not be negative\n\
             goroutine 1 [running]:\nk8s.io/klog/v2.stacks(0xc000010001)\n\t/build/klog.go:1026 +0xb9\n";
        let later = once.replace("18:40", "18:41");
        assert_eq!(
            errors(&format!("{once}{later}")).unwrap(),
            "invalid configuration: MaxPods (--max-pods) -1 must not be negative"
        );
        let own = "tatara-node: E-KUBELET-CONFIG: read /var/lib/kubelet/config.yaml: bad\nhint: read\n";
        assert!(errors(own).unwrap().starts_with("tatara-node: E-KUBELET-CONFIG"));
        assert_eq!(errors("I1121 18:40:58.1 76 x.go:1] all is well\nEverything\n"), None);
    }

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
