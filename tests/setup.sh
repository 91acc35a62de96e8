#!/usr/bin/env bash
# Puts in place what a make target needs beyond Rust: tests/setup.sh build|demo|test|test-afxdp|bench|peers|fuzz
#
# Installs only what is missing, says what and why, and starts no service. Does nothing, and needs no network, when
# everything is there. Open vSwitch's own programs, which the tests compare us with, are unpacked under target/peers and
# never installed, its Python clients put under target/peers-python: an Open vSwitch that runs on this machine isn't
# touched, nor its Python.
set -euo pipefail
cd "$(dirname "$0")/.."
goal=${1:?tests/setup.sh build|demo|test|test-afxdp|bench|peers|fuzz}
peers=${OVS_PREFIX:-target/peers}
python=${PEERS_PYTHON:-target/peers-python}

say() { echo "set-up: $*"; }
fail() { echo "set-up: $*" >&2; exit 1; }

# need COMMAND PACKAGE WHY…: notes the Debian package of a missing command.
missing=()
need() {
    local command=$1 package=$2
    shift 2
    command -v "$command" >/dev/null && return
    say "installing the Debian package $package: $*"
    missing+=("$package")
}

# need_header FILE PACKAGE WHY…: the same for a header of C.
need_header() {
    local header=$1 package=$2
    shift 2
    [ -e "/usr/include/$header" ] && return
    say "installing the Debian package $package: $*"
    missing+=("$package")
}

# What the cargo feature afxdp is built with, besides make and a C compiler.
afxdp_crate() {
    need make make "the crate afxdp builds a libbpf with it"
    need_header libelf.h libelf-dev "the libbpf of the crate afxdp reads programs with it"
    need_header zlib.h zlib1g-dev "the libbpf of the crate afxdp is linked with it"
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || fail "installing ${missing[*]} needs root: run make as root, or install them by hand"
    command -v apt-get >/dev/null || fail "this is not Debian (no apt-get): please install what provides ${missing[*]}"
    # iperf3 asks whether to run as a daemon; noninteractive takes its default, which is no.
    local apt="env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0"
    if $apt install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        missing=()
        return
    fi
    say "the package lists are missing or old: apt-get update"
    $apt update >/dev/null || fail "apt-get update failed; with no network, please install by hand: ${missing[*]}"
    $apt install -y --no-install-recommends "${missing[@]}" >/dev/null || fail "could not install ${missing[*]}"
    missing=()
}

rust() {
    command -v cargo >/dev/null || fail "Rust is missing: get it from https://rustup.rs"
    need cc gcc "Rust links with it"
    need ld binutils "Rust links with it"
}

rust_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    command -v rustup >/dev/null || fail "cargo $1 is missing: install your distribution's package of it"
    say "adding the Rust component $2: make test checks with it"
    rustup component add "$2"
}

cargo_fuzz() {
    cargo fuzz --version >/dev/null 2>&1 && return
    say "installing cargo-fuzz from crates.io, for this user: it builds and runs the fuzz targets"
    cargo install --quiet --locked cargo-fuzz
}

lab() {
    [ "$(id -u)" = 0 ] || fail "'make $goal' needs root: it makes network namespaces and opens packet sockets. Try: sudo env \"PATH=\$PATH\" make $goal"
    need ip iproute2 "the lab's hosts and pods are network namespaces"
    need ping iputils-ping "the lab pings"
    need tracepath iputils-tracepath "the lab looks for the MTU of a path"
    need sysctl procps "settings of namespaces (sysctl), ending processes (kill)"
    need iperf3 iperf3 "TCP transfers (its daemon stays off)"
}

can_make_namespaces() {
    local probe=vsw-probe-$$ said
    if ! said=$(ip netns add $probe 2>&1 && ip netns exec $probe true 2>&1); then
        ip netns del $probe 2>/dev/null || true
        fail "this machine lets us make no network namespace ($said): in a container, run it with --privileged"
    fi
    ip netns del $probe
}

# The Debian package of each shared library that Open vSwitch's programs may lack here.
library_package() {
    case $1 in
    libssl.so.3 | libcrypto.so.3) echo libssl3 ;;
    libcap-ng.so.0) echo libcap-ng0 ;;
    libnuma.so.1) echo libnuma1 ;;
    libxdp.so.1) echo libxdp1 ;;
    libbpf.so.1) echo libbpf1 ;;
    libunbound.so.8) echo libunbound8 ;;
    *) fail "Open vSwitch needs the library $1; please install its package" ;;
    esac
}

open_vswitch() {
    local tools=("$peers"/usr/bin/ovs-vsctl "$peers"/usr/bin/ovsdb-client "$peers"/usr/bin/ovsdb-tool "$peers"/usr/sbin/ovsdb-server "$peers"/usr/lib/openvswitch-switch/ovs-vswitchd)
    if [ ! -x "${tools[0]}" ]; then
        command -v apt-get >/dev/null || fail "no apt-get to fetch Open vSwitch's tools with: unpack them yourself and set OVS_PREFIX"
        say "unpacking (not installing) openvswitch-switch and openvswitch-common into $peers: the tests drive us with the real ovs-vsctl and ovsdb-client"
        download=$(mktemp -d)
        trap 'rm -rf "$download"' EXIT
        fetch() { (cd "$download" && apt-get -qq download openvswitch-switch openvswitch-common 2>/dev/null); }
        fetch || { say "the package lists are missing or old: apt-get update" && apt-get -qq update && fetch; } ||
            fail "could not fetch openvswitch-switch and openvswitch-common: no network?"
        mkdir -p "$download/tree" "$(dirname "$peers")"
        for package in "$download"/*.deb; do dpkg-deb -x "$package" "$download/tree"; done
        rm -rf "$peers"
        cp -r "$download/tree" "$peers"
    fi
    local library package
    for library in $(ldd "${tools[@]}" | awk '/not found/ {print $1}' | sort -u); do
        package=$(library_package "$library")
        say "installing the Debian package $package: a library of Open vSwitch's tools"
        missing+=("$package")
    done
    install_missing
}

# The Debian package of each shared library that testpmd and its AF_XDP driver lack where they are unpacked.
testpmd_library() {
    local name=${1%%.so*} number=${1##*.so.}
    case $1 in
    # librte_hash.so.23 is in librte-hash23, librte_common_mlx5.so.23 in librte-common-mlx5-23.
    librte_*[0-9].so.*) echo "${name//_/-}-$number" ;;
    librte_*) echo "${name//_/-}$number" ;;
    libfdt.so.1) echo libfdt1 ;;
    libibverbs.so.1) echo libibverbs1 ;;
    libmlx[45].so.*) echo ibverbs-providers ;;
    libnl-3.so.200) echo libnl-3-200 ;;
    libnl-route-3.so.200) echo libnl-route-3-200 ;;
    libnuma.so.1) echo libnuma1 ;;
    libpcap.so.0.8) echo libpcap0.8 ;;
    libjansson.so.4) echo libjansson4 ;;
    libbsd.so.0) echo libbsd0 ;;
    libelf.so.1) echo libelf1 ;;
    *) library_package "$1" ;;
    esac
}

# DPDK's testpmd, which may be missing: five megabytes of the hundreds that installing it would bring.
testpmd() {
    local tree=$peers/dpdk left_out="testpmd is left out of the comparison"
    if command -v dpdk-testpmd >/dev/null || [ -e "$tree/complete" ]; then return; fi
    command -v apt-get >/dev/null || { say "no apt-get to fetch dpdk-testpmd with: $left_out" && return; }
    say "unpacking (not installing) testpmd out of dpdk-dev into $tree: it is the usual yardstick"
    rm -rf "$tree" && mkdir -p "$tree"
    local packages="dpdk-dev librte-net-af-xdp23 librte-mempool-ring23" libraries download library
    for _ in 1 2 3 4 5 6; do
        download=$(mktemp -d)
        # shellcheck disable=SC2086 # One word for each package.
        (cd "$download" && apt-get -qq download $packages 2>/dev/null) || { say "could not fetch $packages: $left_out" && return; }
        for package in "$download"/*.deb; do dpkg-deb -x "$package" "$tree"; done
        rm -rf "$download"
        libraries=$(find "$tree" -name '*-linux-gnu' -o -name 'pmds-*' | tr '\n' :)
        packages=
        for library in $(LD_LIBRARY_PATH=$libraries ldd "$tree"/usr/bin/dpdk-testpmd "$tree"/usr/lib/*/dpdk/pmds-*/*.so.* | awk '/not found/ {print $1}' | sort -u); do
            packages="$packages $(testpmd_library "$library")"
        done
        [ -n "$packages" ] || { touch "$tree/complete" && return; }
    done
    say "testpmd lacks libraries still ($packages): $left_out"
}

# Each tests/python/NAME.txt names packages of PyPI; they go into a directory of their own.
python_clients() {
    local list place
    for list in tests/python/*.txt; do
        place=$python/$(basename "$list" .txt)
        cmp -s "$list" "$place/installed" && continue
        if ! python3 -m pip --version >/dev/null 2>&1; then
            say "installing the Debian package python3-pip: it fetches Open vSwitch's Python clients"
            missing+=(python3-pip)
            install_missing
        fi
        say "fetching $(grep -v '^#' "$list" | tr '\n' ' ')from PyPI into $place: the tests drive us with Open vSwitch's Python clients"
        rm -rf "$place"
        PIP_ROOT_USER_ACTION=ignore python3 -m pip --quiet --disable-pip-version-check install --no-compile --target "$place" --requirement "$list" ||
            fail "could not fetch the packages of $list from PyPI: no network?"
        cp "$list" "$place/installed"
    done
}

case $goal in
build) rust ;;
demo)
    lab
    rust
    need tcpdump tcpdump "the demo shows the VXLAN frames on the wire"
    ;;
bench)
    lab
    rust
    ;;
peers)
    lab
    rust
    afxdp_crate
    need ethtool ethtool "Open vSwitch's pods finish their checksums themselves"
    ;;
fuzz)
    rust
    need g++ g++ "libFuzzer is C++"
    ;;
test-afxdp)
    lab
    rust
    afxdp_crate
    need tcpdump tcpdump "the tests look at frames on the wire"
    need ethtool ethtool "the tests have checksums finished where they are looked at"
    ;;
test)
    lab
    rust
    afxdp_crate
    need tcpdump tcpdump "the tests look at frames on the wire"
    need python3 python3 "the tests send and read raw frames with it"
    need ethtool ethtool "the tests have checksums finished where they are looked at"
    need iptables iptables "an internal port is the gateway of pods that NAT is done for"
    ;;
*) fail "unknown goal '$goal': build, demo, test, test-afxdp, bench, peers or fuzz" ;;
esac
install_missing
case $goal in
demo | bench | test-afxdp) can_make_namespaces ;;
peers)
    can_make_namespaces
    open_vswitch
    testpmd
    ;;
fuzz) cargo_fuzz ;;
test)
    can_make_namespaces
    rust_component fmt rustfmt
    rust_component clippy clippy
    open_vswitch
    python_clients
    ;;
esac
