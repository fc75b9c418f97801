use super::{
    BootEnv, EnvError, GRUB_CFG, GRUB_USB_CFG, GRUBENV_BYTES, NODE_CFG_BYTES, Slot, TRIAL_BOOTS, Trial,
    node_cfg,
};
use crate::error::Code;
use proptest::prelude::{Just, Strategy, prop, prop_oneof, proptest};
use std::path::{Path, PathBuf};
use std::process::Command;

fn slots() -> impl Strategy<Value = Slot> {
    prop_oneof![Just(Slot::A), Just(Slot::B)]
}

fn envs() -> impl Strategy<Value = BootEnv> {
    let trial = (slots(), 0..=TRIAL_BOOTS).prop_map(|(slot, boots_left)| Trial { slot, boots_left });
    (slots(), prop::option::of(trial), prop::option::of("[ -~\n]{1,100}"))
        .prop_map(|(slot, trial, request)| BootEnv { slot, trial, request })
}

/// A file of this test process; `cargo test` runs tests side by side, so each names its own.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tatara-spec-{}-{name}", std::process::id()))
}

fn editenv(file: &Path, args: &[&str]) -> String {
    let output =
        Command::new("grub-editenv").arg(file).args(args).output().expect("grub-editenv (grub-common)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn grub_reads_what_we_write() {
    let file = scratch("ours");
    let env = BootEnv { request: Some("tatara.refresh a=\\b".to_owned()), ..BootEnv::after_install(Slot::B) };
    std::fs::write(&file, env.to_block()).expect("write");
    let listed = editenv(&file, &["list"]);
    std::fs::remove_file(&file).expect("remove");
    assert_eq!(listed, "slot=b\ntrial=b\nboots_left=3\nrequest=tatara.refresh a=\\b\n");
}

#[test]
fn we_read_what_grub_writes() {
    let file = scratch("grub");
    editenv(&file, &["create"]);
    let set = ["set", "slot=a", "other=x", "trial=b", "boots_left=2", "request=one \\ two=\"3\""];
    editenv(&file, &set);
    let block = std::fs::read(&file).expect("read");
    let expected = BootEnv {
        slot: Slot::A,
        trial: Some(Trial { slot: Slot::B, boots_left: 2 }),
        request: Some("one \\ two=\"3\"".to_owned()),
    };
    assert_eq!(BootEnv::parse(&block), Ok(expected.clone()));
    std::fs::write(&file, expected.to_block()).expect("write");
    editenv(&file, &["unset", "request", "boots_left"]);
    let block = std::fs::read(&file).expect("read");
    std::fs::remove_file(&file).expect("remove");
    let trial = Some(Trial { slot: Slot::B, boots_left: 0 });
    assert_eq!(BootEnv::parse(&block), Ok(BootEnv { slot: Slot::A, trial, request: None }));
}

#[test]
fn blocks_that_are_none() {
    let good = BootEnv::after_install(Slot::A).to_block();
    assert_eq!(BootEnv::parse(&good[..1000]), Err(EnvError::Length(1000)));
    assert_eq!(BootEnv::parse(&[0; GRUBENV_BYTES]), Err(EnvError::Signature));
    let text = String::from_utf8(good.to_vec()).expect("text");
    let wrong = text.replace("slot=a\n", "slot=c\n");
    assert_eq!(BootEnv::parse(wrong.as_bytes()), Err(EnvError::Slot("c".to_owned())));
    let empty = format!("# GRUB Environment Block\n{}", "#".repeat(GRUBENV_BYTES - 25));
    assert_eq!(BootEnv::parse(empty.as_bytes()), Err(EnvError::Slot(String::new())));
}

#[test]
fn a_request_too_long_is_left_out_whole() {
    let env = BootEnv { request: Some("x".repeat(901)), ..BootEnv::after_install(Slot::A) };
    assert_eq!(BootEnv::parse(&env.to_block()), Ok(BootEnv::after_install(Slot::A)));
}

#[test]
fn a_bad_upgrade_falls_back_after_its_boots() {
    let good = BootEnv::after_install(Slot::A).booted().blessed(Slot::A);
    assert_eq!(good, BootEnv { slot: Slot::A, trial: None, request: None });
    let mut env = good.on_trial(Slot::B);
    for _ in 0..TRIAL_BOOTS {
        assert_eq!((env.chosen(), env.fallen_back()), (Slot::B, None));
        env = env.booted();
    }
    assert_eq!((env.chosen(), env.fallen_back()), (Slot::A, Some(Slot::B)));
    // The node that fell back is healthy: that blesses nothing that failed, and the failure stays on record.
    assert_eq!(env.blessed(Slot::A), env);
    // A boot of the bad slot by hand that turns out well blesses it after all.
    assert_eq!(env.blessed(Slot::B), BootEnv { slot: Slot::B, trial: None, request: None });
}

#[test]
fn node_cfg_refuses_what_grub_cannot_pass() {
    for arg in ["", "a b", "a\"b", "a'b", "a\\b", "a\nb", "ä"] {
        assert_eq!(node_cfg(&[arg.to_owned()]).expect_err(arg).code, Code::CmdlineBad, "{arg}");
    }
}

#[test]
fn node_cfg_refuses_what_does_not_fit() {
    let fits = "x".repeat(NODE_CFG_BYTES - "set node_args=''\n".len());
    assert_eq!(node_cfg(std::slice::from_ref(&fits)).expect("it fits").len(), NODE_CFG_BYTES);
    let fault = node_cfg(&[fits + "x"]).expect_err("a byte too many");
    assert_eq!(fault.code, Code::CmdlineBad);
    assert!(fault.message.contains("4097 bytes"), "{}", fault.message);
}

#[test]
fn the_scripts_are_grub_script() {
    let node = node_cfg(&["quiet".to_owned()]).expect("printable");
    for (name, script) in [("disk", GRUB_CFG), ("usb", GRUB_USB_CFG), ("node", node.as_str())] {
        let file = scratch(name);
        std::fs::write(&file, script).expect("write");
        let output =
            Command::new("grub-script-check").arg(&file).output().expect("grub-script-check (grub-common)");
        std::fs::remove_file(&file).expect("remove");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn grub_counts_down_from_the_same_number_and_uses_the_same_paths() {
    for left in 1..=TRIAL_BOOTS {
        let step = format!("[ \"$boots_left\" = {left} ]; then\n        set left={}\n", left - 1);
        assert!(GRUB_CFG.contains(&step), "{step}");
    }
    assert!(!GRUB_CFG.contains(&format!("\"$boots_left\" = {}", TRIAL_BOOTS + 1)));
    for path in [
        crate::layout::esp::kernel(Slot::A),
        crate::layout::esp::initramfs(Slot::A),
        crate::layout::esp::node_cfg(Slot::A),
    ] {
        let path = format!("\"/{}\"", path.replace("slot-a", "slot-$1"));
        assert!(GRUB_CFG.contains(&path), "{path}");
    }
}

proptest! {
    #[test]
    fn blocks_round_trip(env in envs()) {
        assert_eq!(BootEnv::parse(&env.to_block()), Ok(env));
    }

    #[test]
    fn parse_never_panics(body in prop::collection::vec(prop::num::u8::ANY, GRUBENV_BYTES - 25)) {
        let block = [b"# GRUB Environment Block\n".as_slice(), &body].concat();
        let _ = BootEnv::parse(&block);
    }

    #[test]
    fn every_trial_ends(env in envs()) {
        let mut after = env.clone();
        for _ in 0..TRIAL_BOOTS {
            after = after.booted();
        }
        assert_eq!(after.chosen(), env.slot);
        assert_eq!(after.request, None);
    }

    #[test]
    fn a_slot_being_written_is_never_chosen_and_the_other_stays_the_way_back(env in envs(), slot in slots()) {
        let writing = env.while_writing(slot);
        assert_eq!((writing.chosen(), writing.booted().chosen()), (slot.other(), slot.other()));
        let mut tried = writing.on_trial(slot);
        assert_eq!(tried.chosen(), slot);
        for _ in 0..TRIAL_BOOTS {
            tried = tried.booted();
        }
        assert_eq!(tried.chosen(), slot.other());
    }

    #[test]
    fn blessing_what_runs_makes_it_the_default(env in envs()) {
        let running = env.chosen();
        let blessed = env.booted().blessed(running);
        assert_eq!(blessed.chosen(), running);
        assert_eq!(blessed.slot, running);
    }

    #[test]
    fn node_cfg_is_one_quoted_word(args in prop::collection::vec("[!#-&(-\\[\\]-~]{1,20}", 0..6)) {
        let text = node_cfg(&args).expect("printable");
        assert_eq!(text.len(), NODE_CFG_BYTES);
        let (first, filling) = text.split_once('\n').expect("a line");
        let inner = first.strip_prefix("set node_args='").and_then(|t| t.strip_suffix('\'')).expect("form");
        assert!(!inner.contains('\''));
        assert_eq!(inner.split_whitespace().collect::<Vec<_>>(), args);
        assert!(filling.ends_with('\n'));
        assert!(filling.lines().all(|line| line.bytes().all(|b| b == b'#')), "GRUB would run it: {filling}");
    }
}
