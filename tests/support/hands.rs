//! What a person does to a running machine, and sees of it: keys, cables, cards, screens.

use crate::guest::Guest;
use crate::screen::Screen;
use tatara::vm::Qmp;

impl Guest {
    /// Runs a command of QEMU's monitor.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn monitor(&self, command: &str, arguments: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        Qmp::connect(&self.setup.scratch().join("qmp"))?.execute(command, arguments)
    }

    /// Presses keys together, by QEMU's names for them (`qapi/ui.json`, QKeyCode).
    ///
    /// # Panics
    /// When QEMU's monitor refuses it.
    pub fn press(&self, keys: &[&str]) {
        let keys: Vec<_> = keys.iter().map(|key| serde_json::json!({"type": "qcode", "data": key})).collect();
        self.monitor("send-key", &serde_json::json!({"keys": keys})).expect("the keyboard");
    }

    /// Types letters and digits, and Enter.
    ///
    /// # Panics
    /// As [`Self::press`].
    pub fn types(&self, line: &str) {
        line.chars().for_each(|key| self.press(&[key.to_string().as_str()]));
        self.press(&["ret"]);
    }

    /// Plugs the cable of a NIC in, or out.
    ///
    /// # Panics
    /// When QEMU refuses it.
    pub fn plug(&self, nic: usize, up: bool) {
        let mut monitor = Qmp::connect(&self.setup.scratch().join("qmp")).expect("QEMU's monitor");
        let what = serde_json::json!({"name": format!("nic{nic}"), "up": up});
        monitor.execute("set_link", &what).expect("the link is set");
    }

    /// What stands in the memory of the VGA console, the scrolled rows included; without line ends, as a wrapped line has none.
    ///
    /// # Panics
    /// When QEMU's monitor does not give it.
    #[must_use]
    pub fn vga_text(&self) -> String {
        /// Where VGA keeps text: pairs of character and colour.
        const MEMORY: (u64, u64) = (0xb8000, 0x8000);
        let file = self.setup.scratch().join("vga");
        let what = serde_json::json!({"val": MEMORY.0, "size": MEMORY.1, "filename": file});
        self.monitor("pmemsave", &what).expect("the VGA console's memory");
        let bytes = std::fs::read(&file).expect("the VGA console's memory");
        bytes
            .chunks_exact(2)
            .map(|cell| if cell[0].is_ascii_graphic() { char::from(cell[0]) } else { ' ' })
            .collect()
    }

    /// What the frame buffer shows.
    ///
    /// # Panics
    /// When QEMU's monitor does not give it.
    #[must_use]
    pub fn screen(&self) -> Screen {
        let file = self.setup.scratch().join("screen.ppm");
        self.monitor("screendump", &serde_json::json!({"filename": file})).expect("the screen");
        Screen::from_ppm(&std::fs::read(&file).expect("the screen"))
    }

    /// Plugs a virtio network card with this MAC address into the free slot.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn plug_nic(&self, mac: &str) -> anyhow::Result<()> {
        let mut monitor = Qmp::connect(&self.setup.scratch().join("qmp"))?;
        // A network of its own: with the first card's, answers would leave by either.
        monitor.execute(
            "netdev_add",
            &serde_json::json!({"type": "user", "id": "late", "net": "10.0.9.0/24"}),
        )?;
        let card = serde_json::json!({
            "driver": "virtio-net-pci", "bus": crate::machine::FREE_SLOT, "netdev": "late", "id": "late-nic", "mac": mac
        });
        monitor.execute("device_add", &card).map(drop)
    }
}
