//! From the errors of the libraries below to [`Fault`]s.

use std::error::Error;
use std::io;
use tatara_disk::{fat, gpt};
use tatara_spec::{Code, Fault};

/// For `map_err`: a fault with a code and words of its own, caused by what came.
pub(crate) fn because<E>(code: Code, text: impl Into<String>) -> impl FnOnce(E) -> Fault
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let text = text.into();
    move |cause| Fault::caused(code, text, cause)
}

/// A write that failed.
pub(crate) fn writing(what: &str) -> impl FnOnce(io::Error) -> Fault {
    because(Code::DiskWrite, format!("cannot write {what}"))
}

/// A read that failed.
pub(crate) fn reading(what: &str) -> impl FnOnce(io::Error) -> Fault {
    because(Code::DiskRead, format!("cannot read {what}"))
}

/// The code of the fault that a [`crate::Source`]'s reader may have put into its I/O error.
pub(crate) fn code_in(error: &io::Error) -> Option<Code> {
    error.get_ref()?.downcast_ref::<Fault>().map(|fault| fault.code)
}

/// A partition table that could not be written.
pub(crate) fn table(error: gpt::table::Error) -> Fault {
    let code = match error {
        gpt::table::Error::DiskSmall { .. } => Code::DiskSmall,
        _ => Code::DiskWrite,
    };
    Fault::caused(code, "the disk cannot be partitioned", error)
}

/// A file system on the ESP that could not be written.
pub(crate) fn esp_write(error: fat::Error) -> Fault {
    let code = match error {
        fat::Error::Full { .. } => Code::EspFull,
        _ => Code::DiskWrite,
    };
    Fault::caused(code, "cannot write the EFI system partition", error)
}

/// A file system on the ESP that could not be read.
pub(crate) fn esp_read(error: fat::Error) -> Fault {
    Fault::caused(Code::DiskRead, "cannot read the EFI system partition", error)
}
