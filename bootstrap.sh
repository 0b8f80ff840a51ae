#!/bin/sh
# Installs what a bare Debian or Ubuntu lacks, then builds mettle. `make run` and `make test` call it; it is quick when
# nothing is missing. Everything that it cannot install it names, with the next step.
set -eu
cd "$(dirname "$0")"

RUST_MIN=95   # 1.95
GO_MIN=21     # 1.21 fetches the version that kubernetes/go.mod asks for
GO_VERSION=1.26.8
CACHE=${METTLE_CACHE:-$HOME/.cache/mettle}
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"

say() { printf 'bootstrap: %s\n' "$*" >&2; }
stop() { say "$1"; printf 'hint: %s\n' "$2" >&2; exit 4; }

# The local provider makes network namespaces and mounts: all of it needs root, so everything runs as root.
[ "$(id -u)" = 0 ] || stop "the local provider needs root" "run 'sudo -E make ${1:-run}'"
[ "$(uname -s)" = Linux ] || stop "the local provider needs Linux" "use a Debian or Ubuntu machine"
command -v apt-get >/dev/null || stop "this is neither Debian nor Ubuntu" \
  "install a C compiler, Rust 1.$RUST_MIN, Go 1.$GO_MIN, containerd, runc, containernetworking-plugins, buildah, mmdebstrap, nftables, iproute2 and conntrack by hand, then use cargo"

# What a build needs, what runs a cluster (`mettle doctor --packages` checks that again), and python3, which checks the
# dashboards' queries.
packages='gcc:gcc libc6-dev:/usr/include/stdlib.h make:make curl:curl ca-certificates:/etc/ssl/certs/ca-certificates.crt git:git
 iproute2:ip util-linux:nsenter procps:sysctl nftables:nft conntrack:conntrack containerd:containerd runc:runc
 containernetworking-plugins:/usr/lib/cni/ptp buildah:buildah mmdebstrap:mmdebstrap tar:tar
 debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg python3:python3'
missing=
for entry in $packages; do
  package=${entry%%:*} proof=${entry#*:}
  case $proof in
    /*) [ -e "$proof" ] || missing="$missing $package" ;;
    *) command -v "$proof" >/dev/null 2>&1 || [ -x "/usr/sbin/$proof" ] || missing="$missing $package" ;;
  esac
done
if [ -n "$missing" ]; then
  say "installing$missing"
  # Debian's containerd would start a service of its own: ours run without it.
  policy=/usr/sbin/policy-rc.d made=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; made=1; }
  trap '[ -z "$made" ] || rm -f $policy' EXIT
  apt-get update -q >&2 || stop "the package lists cannot be fetched" "check the network and /etc/apt/sources.list, then try again"
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >&2 ||
    stop "the packages$missing could not be installed" "see apt's message above"
  [ -z "$made" ] || rm -f $policy
  made=
fi

PATH=$HOME/.cargo/bin:$CACHE/go/bin:$PATH
minor() { "$@" 2>/dev/null | sed -n 's/[^0-9]*1\.\([0-9]*\).*/\1/p' | head -n 1; }
rust=$(minor cargo --version || true)
if [ "${rust:-0}" -lt $RUST_MIN ]; then
  say "installing Rust (found: 1.${rust:-none})"
  if command -v rustup >/dev/null 2>&1; then
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt >&2 && rustup default stable >&2
  else
    curl --proto '=https' --tlsv1.2 -fsS --connect-timeout 10 https://sh.rustup.rs | sh -s -- -y -q --profile minimal --component clippy --component rustfmt >&2
  fi || stop "Rust 1.$RUST_MIN could not be installed" "install it from https://rustup.rs, then try again"
  rust=$(minor cargo --version || true)
  [ "${rust:-0}" -ge $RUST_MIN ] || stop "Rust 1.$RUST_MIN is needed, 1.${rust:-none} is there" "run 'rustup update stable'"
fi

# Go builds Kubernetes where its official binaries cannot be downloaded.
go=$(minor go version || true)
if [ "${go:-0}" -lt $GO_MIN ]; then
  say "installing Go $GO_VERSION into $CACHE/go (found: 1.${go:-none})"
  case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=unknown ;; esac
  mkdir -p "$CACHE"
  url=https://go.dev/dl/go$GO_VERSION.linux-$arch.tar.gz
  { curl --proto '=https' -fsSL --connect-timeout 10 -o "$CACHE/go.tar.gz" "$url" && rm -rf "$CACHE/go" && tar -C "$CACHE" -xzf "$CACHE/go.tar.gz"; } ||
    stop "Go could not be installed" "install Go 1.$GO_MIN or newer from https://go.dev/dl, then try again"
  rm -f "$CACHE/go.tar.gz"
fi

# While the compiler has the cores, the network fetches what the next step builds.
if [ -z "$(ls -d "$CACHE"/bin/*/kube-apiserver 2>/dev/null)" ]; then
  ( cd kubernetes && go mod download && cd metrics-server && go mod download ) >/dev/null 2>&1 &
fi
# The directory is shared by all checkouts for the 400 crates that they compile alike. Cargo calls our own crates fresh by
# the age of their files, whichever checkout they lie in: one checkout's tests could be another's programs.
mkdir -p "$CARGO_TARGET_DIR"
if [ "$(cat "$CARGO_TARGET_DIR/.checkout" 2>/dev/null || true)" != "$(pwd -P)" ]; then
  cargo clean --locked --workspace >/dev/null 2>&1 || stop "another checkout's programs in $CARGO_TARGET_DIR cannot be removed" "remove that directory, then try again"
  pwd -P > "$CARGO_TARGET_DIR/.checkout"
fi
say "building mettle (about 10 minutes the first time on two cores)"
# --workspace: with the features that the tests need too, so that they find everything compiled.
cargo build --locked --workspace --bin mettle || stop "mettle does not compile" "see the compiler's message above"
# A copy: another checkout may build into the same directory, and a run must not lose its program.
cp -f "$CARGO_TARGET_DIR/debug/mettle" mettle.new && mv -f mettle.new mettle
