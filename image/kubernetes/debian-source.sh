# Builds Kubernetes from Debian's source package as its debian/rules do, but with the version in the programs, and only these.
# Above this stand SOURCE (the package's version), VERSION (Kubernetes') and PROGRAMS.
# mmdebstrap runs it on the host with the root of the build as $1; it runs itself inside, and leaves the programs beside itself.
set -eu
if [ "$1" != --inside ]; then
  cp "$0" "$1/build.sh"
  chroot "$1" sh /build.sh --inside
  for program in $PROGRAMS; do cp "$1/build/out/$program" "$(dirname "$0")/$program"; done
  exit
fi

mkdir -p /build/out
cd /build
# The build itself is root's: so is the root that it is in.
apt-get -q -o APT::Sandbox::User=root source "kubernetes=$SOURCE" >&2
cd kubernetes-*/
export PATH="/usr/lib/go-1.19/bin:$PATH" HOME=/build GOPATH="$PWD/.go" CGO_ENABLED=0
mkdir -p .go/src/k8s.io
ln -sfn ../../.. .go/src/k8s.io/kubernetes
# The vendored reflect2 1.0.1 iterates over maps as Go did before 1.18: programs crash in mapiternext. Debian's own is newer.
rm vendor/github.com/modern-go/reflect2/*.go vendor/github.com/modern-go/reflect2/*.s
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.go /usr/share/gocode/src/github.com/modern-go/reflect2/*.s \
  vendor/github.com/modern-go/reflect2/
# Without git there is no tag to take the version from, and kubeadm compares versions.
minor=${VERSION#*.}
cat >/build/version <<EOF
KUBE_GIT_COMMIT=unknown
KUBE_GIT_TREE_STATE=clean
KUBE_GIT_VERSION=v$VERSION
KUBE_GIT_MAJOR=${VERSION%%.*}
KUBE_GIT_MINOR=${minor%%.*}
EOF
export KUBE_GIT_VERSION_FILE=/build/version
what=
for program in $PROGRAMS; do what="$what cmd/$program"; done
make WHAT="${what# }" >&2
for program in $PROGRAMS; do cp "_output/bin/$program" /build/out/; done
