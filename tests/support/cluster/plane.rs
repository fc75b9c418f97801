//! The programs of a control plane, with the arguments that kubeadm gives them in its static pods (Kubernetes 1.20,
//! cmd/kubeadm/app/phases/controlplane/manifests.go).

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// etcd, on the loopback of the test's namespace.
pub(super) const ETCD: &str = "http://127.0.0.1:2379";

/// Lines of a program's log in a message.
const TAIL_LINES: usize = 15;

const SERVICES: &str = "10.96.0.0/16";

pub(super) struct Plane {
    dir: PathBuf,
    programs: PathBuf,
    address: String,
    running: Vec<(&'static str, Child)>,
    said: Arc<Said>,
}

/// How many lines the programs have written that may mean that something has changed.
#[derive(Default)]
struct Said {
    lines: Mutex<u64>,
    more: Condvar,
}

impl Said {
    /// Keeps a program's lines in its log. Requests of kubectl are the tests' own, and change nothing by being asked.
    fn keep(&self, from: impl Read, mut log: File) {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // The log is for messages; a disk that is full shows elsewhere.
            let _ = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
            if !String::from_utf8_lossy(&line).contains("kubectl/") {
                *self.lines.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                self.more.notify_all();
            }
        }
    }
}

const API_SERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

impl Plane {
    pub(super) fn new(dir: &Path, programs: &Path, address: &str) -> Self {
        let (dir, programs, address) = (dir.to_owned(), programs.to_owned(), address.to_owned());
        Self { dir, programs, address, running: Vec::new(), said: Arc::default() }
    }

    /// How many lines were written so far.
    pub(super) fn lines(&self) -> u64 {
        *self.said.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a line beyond so many; whether one came before the deadline.
    pub(super) fn says_more_than(&self, lines: u64, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let said = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.said.more.wait_timeout_while(said, left, |now| *now <= lines);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Starts everything; the parts wait for each other by themselves.
    pub(super) fn start(&mut self) {
        let data = format!("--data-dir={}", self.dir.join("etcd").display());
        self.run("etcd", Path::new("etcd"), &[data]);
        self.api_server(true);
        self.controller_manager(true);
        let programs = self.programs.clone();
        let scheduler = [self.kubeconfig("scheduler"), LOOPBACK.into(), NO_PORT.into(), NO_ELECTION.into()];
        self.run("kube-scheduler", &programs.join("kube-scheduler"), &scheduler);
    }

    pub(super) fn api_server(&mut self, runs: bool) {
        let arguments = self.api_server_arguments();
        self.turn(API_SERVER, &arguments, runs);
    }

    pub(super) fn controller_manager(&mut self, runs: bool) {
        let arguments = self.controller_manager_arguments();
        self.turn(CONTROLLER_MANAGER, &arguments, runs);
    }

    fn turn(&mut self, name: &'static str, arguments: &[String], runs: bool) {
        if runs {
            let program = self.programs.join(name);
            self.run(name, &program, arguments);
        } else {
            for (_, child) in self.running.iter_mut().filter(|(running, _)| *running == name) {
                end(child);
            }
            self.running.retain(|(running, _)| *running != name);
        }
    }

    fn run(&mut self, name: &'static str, program: &Path, arguments: &[String]) {
        let log = File::options().create(true).append(true).open(self.log(name)).expect("a log");
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.dir).stdin(Stdio::null());
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let (lines, said) = (child.stderr.take().expect("its log"), Arc::clone(&self.said));
        std::thread::spawn(move || said.keep(lines, log));
        self.running.push((name, child));
    }

    fn pki(&self, name: &str) -> String {
        self.dir.join("pki").join(name).display().to_string()
    }

    fn kubeconfig(&self, who: &str) -> String {
        format!("--kubeconfig={}", self.dir.join(format!("{who}.conf")).display())
    }

    fn api_server_arguments(&self) -> Vec<String> {
        let files = [
            ("client-ca-file", "ca.crt"),
            ("kubelet-client-certificate", "apiserver-kubelet-client.crt"),
            ("kubelet-client-key", "apiserver-kubelet-client.key"),
            ("proxy-client-cert-file", "front-proxy-client.crt"),
            ("proxy-client-key-file", "front-proxy-client.key"),
            ("requestheader-client-ca-file", "front-proxy-ca.crt"),
            ("service-account-key-file", "sa.pub"),
            ("service-account-signing-key-file", "sa.key"),
            ("tls-cert-file", "apiserver.crt"),
            ("tls-private-key-file", "apiserver.key"),
        ];
        let others = [
            ("advertise-address", self.address.as_str()),
            ("allow-privileged", "true"),
            ("authorization-mode", "Node,RBAC"),
            ("enable-admission-plugins", "NodeRestriction"),
            ("enable-bootstrap-token-auth", "true"),
            ("etcd-servers", ETCD),
            ("insecure-port", "0"),
            ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname"),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            ("requestheader-group-headers", "X-Remote-Group"),
            ("requestheader-username-headers", "X-Remote-User"),
            ("secure-port", "6443"),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            ("service-cluster-ip-range", SERVICES),
            // Every request is a line: whatever changes in the cluster comes by one (`Plane::says_more_than`).
            ("v", "3"),
        ];
        let files = files.iter().map(|(flag, name)| format!("--{flag}={}", self.pki(name)));
        files.chain(others.iter().map(|(flag, value)| format!("--{flag}={value}"))).collect()
    }

    fn controller_manager_arguments(&self) -> Vec<String> {
        let files = [
            ("cluster-signing-cert-file", "ca.crt"),
            ("cluster-signing-key-file", "ca.key"),
            ("root-ca-file", "ca.crt"),
            ("service-account-private-key-file", "sa.key"),
        ];
        let mut arguments = vec![self.kubeconfig("controller-manager")];
        arguments.extend(files.iter().map(|(flag, name)| format!("--{flag}={}", self.pki(name))));
        arguments.extend([LOOPBACK, NO_PORT, NO_ELECTION].map(str::to_owned));
        arguments.extend([
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", super::PODS),
            "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
            format!("--service-cluster-ip-range={SERVICES}"),
            "--use-service-account-credentials=true".to_owned(),
        ]);
        arguments
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// The last lines of every program's log.
    pub(super) fn tails(&self) -> String {
        let tail = |(name, _): &(&'static str, Child)| {
            let text = fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("{name}:\n{}\n", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
        };
        self.running.iter().map(tail).collect()
    }
}

const LOOPBACK: &str = "--bind-address=127.0.0.1";
/// Of the port without TLS.
const NO_PORT: &str = "--port=0";
/// There is one of each.
const NO_ELECTION: &str = "--leader-elect=false";

fn end(child: &mut Child) {
    // It may have ended already; then there is nothing to end.
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(|(_, child)| end(child));
    }
}
