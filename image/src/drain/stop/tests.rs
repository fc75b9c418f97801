use super::ignored;

#[test]
fn what_nohup_ignores_stays_ignored() {
    let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
    assert_eq!(ignored(status), 0x1001);
    assert_eq!(ignored(""), 0);
}
