//! The kernel's own wish for a module: it calls `/sbin/modprobe -q -- NAME` (kernel/module/kmod.c, call_modprobe).

use crate::drivers::Drivers;
use std::path::Path;
use std::process::ExitCode;

/// Loads the module that the arguments name, by name or alias. The exit status is 0 when the kernel has it now, else 1; with `-q`
/// nothing is said, because the kernel also asks for what does not exist.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    let Some(request) = Request::parse(args) else {
        eprintln!("modprobe: expected [-q] [--] NAME");
        return ExitCode::FAILURE;
    };
    let modules = Path::new("/lib/modules").join(tatara_sys::module::kernel_release());
    match Drivers::new(&modules).and_then(|drivers| drivers.load(&request.name)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            if request.messages == Messages::Shown {
                eprintln!("modprobe: {}", fault.chain());
            }
            ExitCode::FAILURE
        }
    }
}

/// Whether failures are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Messages {
    Shown,
    Quiet,
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    name: String,
    messages: Messages,
}

impl Request {
    fn parse(args: &[String]) -> Option<Self> {
        let mut messages = Messages::Shown;
        let mut args = args.iter().map(String::as_str);
        let name = loop {
            match args.next()? {
                "-q" | "--quiet" => messages = Messages::Quiet,
                "--" => break args.next()?,
                option if option.starts_with('-') => return None,
                name => break name,
            }
        };
        args.next().is_none().then(|| Self { name: name.to_owned(), messages })
    }
}

#[cfg(test)]
mod tests {
    use super::{Messages, Request};

    fn parse(args: &[&str]) -> Option<Request> {
        Request::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_kernels_call_and_a_persons() {
        let request = |name: &str, messages| Some(Request { name: name.into(), messages });
        assert_eq!(parse(&["-q", "--", "fs-ext4"]), request("fs-ext4", Messages::Quiet));
        assert_eq!(parse(&["nvme"]), request("nvme", Messages::Shown));
        assert_eq!(parse(&["--", "-odd"]), request("-odd", Messages::Shown));
        for wrong in [&[][..], &["-q"], &["-q", "--"], &["-r", "nvme"], &["a", "b"]] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
