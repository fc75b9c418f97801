//! Node configs for the tests, as text: what a machine fetches is text.

/// A config with the parts that tests vary.
#[derive(Debug, Clone)]
pub struct NodeYaml {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.serial`.
    pub serial: u64,
    /// `install.generation`.
    pub generation: u64,
    /// `install.disk`, in YAML's flow form, e.g. `{transport: virtio}`.
    pub disk: String,
    /// `install.wipe`.
    pub wipe: &'static str,
    /// `install.handover`.
    pub handover: &'static str,
    /// Further YAML of `install`, indented.
    pub install: &'static str,
    /// Further top-level YAML.
    pub more: String,
}

impl NodeYaml {
    /// A config that installs to the only disk there is.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            serial: 1,
            generation: 1,
            disk: "{}".to_owned(),
            wipe: "never",
            handover: "kexec",
            install: "",
            more: String::new(),
        }
    }

    /// Appends top-level YAML.
    #[must_use]
    pub fn with(mut self, yaml: &str) -> Self {
        self.more.push_str(yaml);
        self
    }

    /// The text that the machine fetches.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, serial, generation, disk, wipe, handover, install, more } = self;
        format!(
            "apiVersion: tatara.dev/v1alpha1\n\
             kind: NodeConfig\n\
             metadata: {{name: {name}, serial: {serial}}}\n\
             install:\n\
             \x20 generation: {generation}\n\
             \x20 release: {{url: ../release/release.json}}\n\
             \x20 disk: {disk}\n\
             \x20 wipe: {wipe}\n\
             \x20 handover: {handover}\n\
             {install}{more}"
        )
    }
}
