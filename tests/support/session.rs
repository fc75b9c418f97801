//! Commands in a machine over SSH, as the one user that its config has.

use crate::ssh::{Key, Login};
use serde_json::Value;
use std::fmt::Write as _;

/// The user of [`user`].
pub const USER: &str = "alice";

/// The part of a config that lets a key in, with sudo.
#[must_use]
pub fn user(key: &Key) -> String {
    format!("users:\n  - {{name: {USER}, keys: ['{}'], sudo: true}}\n", key.public())
}

/// A machine that answers.
pub struct Session<'a> {
    key: &'a Key,
    port: u16,
}

impl<'a> Session<'a> {
    /// On the host's port that leads to it.
    #[must_use]
    pub fn new(key: &'a Key, port: u16) -> Self {
        Self { key, port }
    }

    /// What a command came to.
    #[must_use]
    pub fn run(&self, command: &str) -> Login {
        self.key.login(USER, self.port, command)
    }

    /// Standard output of a command that ends with success.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn say(&self, command: &str) -> String {
        let login = self.run(command);
        assert!(login.ok, "`{command}`: {}{}", login.out, login.err);
        login.out
    }

    /// The answer of `tatara-node`, which may be that something differs.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn node(&self, command: &str) -> Value {
        let login = self.run(&format!("sudo tatara-node {command} --json"));
        serde_json::from_str(&login.out)
            .unwrap_or_else(|e| panic!("{command}: {e}: {}{}", login.out, login.err))
    }

    /// Writes a file below a directory that only root writes to. The text must be without single quotes.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        assert!(!text.contains('\''), "a text that the shell would not pass on");
        let _ = self.say(&format!("printf %s '{text}' | sudo tee {path} >/dev/null"));
    }

    /// The first lines of several files: a file that is not there has none.
    #[must_use]
    pub fn lines(&self, paths: &[&str]) -> Vec<String> {
        let mut command = String::new();
        for path in paths {
            // Writing to a String cannot fail.
            let _ = write!(command, "sudo head -qn1 {path} 2>/dev/null | head -n1 | grep . || echo; ");
        }
        self.say(&format!("{command} true")).lines().map(str::to_owned).collect()
    }

    /// Has the machine power itself off, which its disk is clean after; [`crate::guest::Guest::ended`] waits for it.
    pub fn power_off(&self) {
        // The connection ends with the machine, before the command does.
        let _ = self.key.login(USER, self.port, "sudo poweroff");
    }
}
