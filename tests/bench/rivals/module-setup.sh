#!/bin/bash
# dracut's module with the hook beside this file (dracut.modules(7)).
depends() { echo base; }
installkernel() { hostonly='' instmods erofs ext4 overlay; }
# shellcheck disable=SC2154 # dracut says where the module is
install() { inst_hook pre-pivot 10 "$moddir/mounts.sh"; }
