//! The node's own kernel arguments (kernel, `Documentation/admin-guide/kernel-parameters.txt`).

use tatara_spec::config::{Hugepages, Isolation, NodeConfig};
use tatara_spec::cpu::CpuPlan;
use tatara_spec::{Code, Fault};

/// COMMAND_LINE_SIZE of x86 with its terminating NUL, in bytes (kernel, `arch/x86/include/asm/setup.h`): what is
/// longer is cut off without a word.
pub const COMMAND_LINE_SIZE: usize = 2048;

/// Kept free for what the boot loader and the installer add: `tatara.boot=`, `tatara.slot=`, `tatara.config=`, pins,
/// `ip=`, `console=`. Bytes.
pub const RESERVED_BYTES: usize = 768;

/// The arguments of a node, in a fixed order; each is one argument as written on the command line.
///
/// # Errors
/// [`Code::CpuIsolation`] when they do not fit into the kernel's command line beside what others add;
/// [`Code::Render`] when a configured argument is not one argument.
pub fn arguments(config: &NodeConfig, cpu: &CpuPlan) -> Result<Vec<String>, Fault> {
    // Seconds; before the sysctl of the same name is set, and in the initramfs: nobody stands before the machine.
    let mut arguments = vec!["panic=10".to_owned()];
    arguments.extend(isolation(config.tuning.isolation, cpu));
    arguments.extend(config.tuning.hugepages.iter().flat_map(|pages| hugepages(pages, cpu)));
    for argument in &config.tuning.kernel_arguments {
        if !is_one_argument(argument) {
            let message =
                format!("tuning.kernelArguments: {argument:?} is not one kernel argument (quote its spaces)");
            return Err(Fault::new(Code::Render, message));
        }
        arguments.push(argument.clone());
    }
    let length = arguments.iter().map(|argument| argument.len() + 1).sum::<usize>();
    let room = COMMAND_LINE_SIZE - RESERVED_BYTES;
    if length > room {
        return Err(Fault::new(
            Code::CpuIsolation,
            format!(
                "the node's kernel arguments take {length} bytes, and {room} are left of the kernel's {COMMAND_LINE_SIZE}; shorten tuning.kernelArguments"
            ),
        ));
    }
    Ok(arguments)
}

/// The flags of `isolcpus` are separated by commas only: a colon makes the kernel ignore the whole argument.
///
/// `rcu_nocbs` follows from `nohz_full`, but is said, so that it can be read in /proc/cmdline; `skew_tick` keeps the
/// housekeeping CPUs' ticks from meeting at one lock.
fn isolation(isolation: Isolation, cpu: &CpuPlan) -> Vec<String> {
    let flags = match isolation {
        Isolation::None => return Vec::new(),
        Isolation::Balanced => "managed_irq",
        Isolation::Static => "domain,managed_irq",
    };
    let (isolated, housekeeping) = (&cpu.isolated, &cpu.housekeeping);
    if isolated.0.is_empty() {
        return Vec::new();
    }
    vec![
        format!("isolcpus={flags},{isolated}"),
        format!("nohz_full={isolated}"),
        format!("rcu_nocbs={isolated}"),
        format!("irqaffinity={housekeeping}"),
        format!("systemd.cpu_affinity={housekeeping}"),
        "skew_tick=1".to_owned(),
    ]
}

/// A count for each node (kernel 5.16), since a plain one is dealt out over nodes of memory alone, too; a kernel without
/// NUMA knows only the plain one. The number belongs to the size before it.
fn hugepages(pages: &Hugepages, cpu: &CpuPlan) -> [String; 2] {
    let each: Vec<String> = cpu.nodes.keys().map(|node| format!("{node}:{}", pages.per_numa_node)).collect();
    let count = if each.is_empty() { pages.per_numa_node.to_string() } else { each.join(",") };
    [format!("hugepagesz={}", pages.size.argument()), format!("hugepages={count}")]
}

/// White space only inside double quotes, which must be closed (kernel, `lib/cmdline.c`, next_arg).
fn is_one_argument(text: &str) -> bool {
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_control() || (c.is_whitespace() && !quoted) => return false,
            _ => {}
        }
    }
    !quoted && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::{COMMAND_LINE_SIZE, RESERVED_BYTES, arguments, hugepages, is_one_argument, isolation};
    use proptest::prelude::{prop_assert, proptest};
    use std::collections::BTreeMap;
    use tatara_spec::config::{HugepageSize, Hugepages, Isolation, NodeConfig, parse};
    use tatara_spec::cpu::{CpuPlan, CpuSet};
    use tatara_spec::{Code, cmdline};

    fn plan(housekeeping: &str, isolated: &str) -> CpuPlan {
        let set = |text: &str| CpuSet::parse(text, 63).unwrap();
        CpuPlan { housekeeping: set(housekeeping), isolated: set(isolated), ..CpuPlan::default() }
    }

    fn config() -> NodeConfig {
        let text = "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: n}\n\
                    install: {release: {url: release.json}}\n";
        parse("node.yaml", text.as_bytes()).unwrap()
    }

    #[test]
    fn balanced_leaves_the_scheduler_its_domains() {
        let arguments = isolation(Isolation::Balanced, &plan("0-1,8-9", "2-7,10-15"));
        assert_eq!(
            arguments,
            [
                "isolcpus=managed_irq,2-7,10-15",
                "nohz_full=2-7,10-15",
                "rcu_nocbs=2-7,10-15",
                "irqaffinity=0-1,8-9",
                "systemd.cpu_affinity=0-1,8-9",
                "skew_tick=1"
            ]
        );
    }

    #[test]
    fn static_takes_the_domains_away() {
        assert_eq!(isolation(Isolation::Static, &plan("0", "1-3"))[0], "isolcpus=domain,managed_irq,1-3");
    }

    #[test]
    fn nothing_isolated_is_no_argument() {
        assert_eq!(isolation(Isolation::None, &plan("0-3", "")), [""; 0]);
        assert_eq!(isolation(Isolation::Balanced, &plan("0-3", "")), [""; 0]);
        assert_eq!(arguments(&config(), &plan("0-3", "")).unwrap(), ["panic=10"]);
    }

    #[test]
    fn huge_pages_are_counted_by_node() {
        let pages = Hugepages { size: HugepageSize::Gib1, per_numa_node: 4 };
        let mut cpu = plan("0", "1-3");
        assert_eq!(hugepages(&pages, &cpu), ["hugepagesz=1G", "hugepages=4"]);
        cpu.nodes = [(0, cpu.housekeeping.clone()), (8, cpu.isolated.clone())].into();
        assert_eq!(hugepages(&pages, &cpu)[1], "hugepages=0:4,8:4");
    }

    /// The largest machine there is, with the smallest runs of CPUs: packed ranges fit.
    #[test]
    fn many_nodes_fit_into_the_command_line() {
        let nodes = (0..16).map(|node| {
            (node, (node * 16..node * 16 + 16).chain(256 + node * 16..272 + node * 16).collect())
        });
        let nodes: BTreeMap<u32, CpuSet> = nodes.collect();
        let housekeeping: CpuSet = (0..16).flat_map(|node| [node * 16, 256 + node * 16]).collect();
        let isolated = (0..512).collect::<CpuSet>().difference(&housekeeping);
        let cpu = CpuPlan { housekeeping, isolated, nodes, last: 511, ..CpuPlan::default() };
        let mut config = config();
        config.tuning.isolation = Isolation::Static;
        assert!(arguments(&config, &cpu).is_ok());
    }

    #[test]
    fn what_the_kernel_would_cut_off_is_refused() {
        let mut config = config();
        config.tuning.kernel_arguments =
            vec!["x".repeat(COMMAND_LINE_SIZE - RESERVED_BYTES - "panic=10 ".len() - 1)];
        assert!(arguments(&config, &plan("0", "")).is_ok());
        config.tuning.kernel_arguments[0].push('x');
        assert_eq!(arguments(&config, &plan("0", "")).unwrap_err().code, Code::CpuIsolation);
    }

    #[test]
    fn two_arguments_in_one_are_refused() {
        assert!(is_one_argument("dyndbg=\"file a +p\"") && is_one_argument("quiet"));
        assert!(!is_one_argument("quiet splash") && !is_one_argument("a=\"b") && !is_one_argument(""));
        assert!(!is_one_argument("a\nb"));
    }

    proptest! {
        /// What passes here is one argument to the splitter that the initramfs uses, too.
        #[test]
        fn one_argument_stays_one(text in "[a-z=\" .,0-9]{1,20}") {
            if is_one_argument(&text) {
                prop_assert!(cmdline::split(&text).len() <= 1);
            }
        }
    }
}
