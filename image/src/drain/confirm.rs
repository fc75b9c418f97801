//! The question before anything is changed.

use std::io::{BufRead as _, BufReader, IsTerminal, Read, Write};
use tatara_spec::error::{Code, Fault};

/// Asks at a terminal whether to go on.
///
/// # Errors
/// There is no terminal, or the answer is not yes.
pub(super) fn confirm(
    node: &str,
    terminal: impl Read + IsTerminal,
    mut question: impl Write,
) -> Result<(), Fault> {
    let no = |why: &str| Err(Fault::new(Code::DrainAnswer, format!("{node} is not drained: {why}")));
    if !terminal.is_terminal() {
        return no("there is no terminal to ask at; `--yes` agrees to the plan");
    }
    let asked = write!(question, "Drain {node}? [y/N] ").and_then(|()| question.flush());
    let mut answer = String::new();
    match asked.and_then(|()| BufReader::new(terminal).read_line(&mut answer)) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) => no("the answer was no"),
        Err(e) => no(&format!("the terminal cannot be read: {e}")),
    }
}

#[cfg(test)]
mod tests;
