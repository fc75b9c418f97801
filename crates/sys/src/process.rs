//! What PID 1 needs of processes and signals.

use crate::error::{Context, Result};
use rustix::process::WaitOptions;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It returned this exit status.
    Exit(i32),
    /// This signal killed it.
    Signal(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exit(status) => write!(f, "exit status {status}"),
            End::Signal(signal) => write!(f, "signal {signal} ({})", signal_name(*signal)),
        }
    }
}

/// The name of a signal that commonly ends a process (signal(7)).
fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGKILL => "SIGKILL: perhaps out of memory",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        _ => "see signal(7)",
    }
}

/// Takes the end of one child that has ended, adopted orphans included (`waitpid(-1, WNOHANG)`); `None` when none has.
///
/// # Errors
/// What waitpid(2) says, but not `ECHILD`: no child is no end.
pub fn reap() -> Result<Option<(i32, End)>> {
    loop {
        return match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error).of("waitpid", "any child"),
            Ok(Some((pid, status))) => {
                let end = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exit(code),
                    (None, Some(signal)) => End::Signal(signal),
                    // Only with WUNTRACED or WCONTINUED, which are not asked for.
                    (None, None) => continue,
                };
                Ok(Some((pid.as_raw_nonzero().get(), end)))
            }
        };
    }
}

/// Runs `act` in a child process that ends with it, and does not wait; without memory for a child, here and now. For processes of
/// one thread: of several only the calling one goes on in the child, and `act` must not need what the others hold.
pub(crate) fn beside(act: impl FnOnce()) {
    // SAFETY: fork(2) takes nothing. The child runs `act` only and ends by _exit(2), so nothing of the parent is run or flushed twice;
    // the one caller, PID 1, has a single thread, so no lock is held that nobody would release.
    match unsafe { libc::fork() } {
        0 => {
            act();
            // SAFETY: ends this process only.
            unsafe { libc::_exit(0) }
        }
        -1 => act(),
        _ => {}
    }
}

/// Makes this process the leader of a session without a controlling terminal (setsid(2)).
///
/// # Errors
/// `EPERM` when it leads a process group already.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().of("setsid", "this process").map(|_| ())
}

/// A signal that PID 1 acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGCHLD: a child ended.
    Child,
    /// SIGINT: Ctrl-Alt-Del.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGPWR: power failure, or a hypervisor's wish.
    Power,
}

const SIGNALS: [(Signal, libc::c_int); 4] = [
    (Signal::Child, libc::SIGCHLD),
    (Signal::Interrupt, libc::SIGINT),
    (Signal::Terminate, libc::SIGTERM),
    (Signal::Power, libc::SIGPWR),
];

/// Signals as a readable descriptor (signalfd(2)): they no longer interrupt anything.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// Blocks every [`Signal`] in this thread and those it starts later, and collects them. A child started by
    /// `std::process::Command` has them unblocked again.
    ///
    /// # Errors
    /// What pthread_sigmask(3) and signalfd(2) say.
    pub fn block() -> Result<Self> {
        let set = signal_set();
        // SAFETY: `set` is initialised and outlives the call; a null old set is allowed.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code)).of("pthread_sigmask", "PID 1's signals");
        }
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).of("signalfd", "PID 1's signals");
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// The next pending signal; `None` when there is none now.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn take(&mut self) -> Result<Option<Signal>> {
        // struct signalfd_siginfo (include/uapi/linux/signalfd.h): 128 bytes, the signal's number in the first four.
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match self.0.read_exact(&mut info) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).of("read", "signalfd"),
        }
        let number = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        Ok(SIGNALS.iter().find(|(_, known)| *known == number).map(|(signal, _)| *signal))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn signal_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; the numbers added are valid signals, so neither call can fail (sigsetops(3)).
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for (_, number) in SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Signal, Signals};

    #[test]
    fn a_blocked_signal_is_read() {
        // SIGPWR's default would end the test; the other threads of the test binary have it unblocked, so it goes to this thread only.
        let mut signals = Signals::block().unwrap();
        assert_eq!(signals.take().unwrap(), None);
        // SAFETY: pthread_self is this live thread, and SIGPWR a valid signal.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGPWR) }, 0);
        assert_eq!(signals.take().unwrap(), Some(Signal::Power));
        assert_eq!(signals.take().unwrap(), None);
    }

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(End::Exit(101).to_string(), "exit status 101");
        assert_eq!(End::Signal(6).to_string(), "signal 6 (SIGABRT)");
    }
}
