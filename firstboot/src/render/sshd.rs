//! sshd: keys only, no root. Debian's sshd_config includes sshd_config.d first, and the first value wins.

use super::{Rendered, header};

pub(super) fn render() -> Vec<Rendered> {
    let text = header("users")
        + "\
# The host key is made once and lives on the state partition.
HostKey /var/lib/tatara/ssh/ssh_host_ed25519_key
# Only keys from the config count, and only root can change them.
AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
PermitUserEnvironment no
# Without PAM sshd refuses accounts whose password is locked, which all of ours are.
UsePAM yes
X11Forwarding no
# A login must not wait for a name server.
UseDNS no
";
    vec![Rendered::public("/etc/ssh/sshd_config.d/10-tatara.conf", text)]
}
