#!/usr/bin/env bash
# Two tenants that use the same addresses, between two hosts, over VXLAN: what `make demo` runs.
#
#   tests/demo.sh                      builds the lab, shows it, removes it; KEEP=1 leaves it up
#   tests/demo.sh enter host1 [CMD…]   a shell (or CMD) on host1, host2, podA1, podA2, podB1 or podB2
#   tests/demo.sh clean                removes the lab
#
# Hosts and pods are network namespaces named vsw-…, files are in /run/vsw-demo. Nothing else is touched.
set -euo pipefail
cd "$(dirname "$0")/.."

run=/run/vsw-demo
bin=$(cat "$run/bin" 2>/dev/null || echo "${BIN_DIR:-$PWD/target/release}")
hosts=(host1 host2)
pods=(podA1 podA2 podB1 podB2)

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi

title() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s   %s%s\n' "$dim" "$*" "$plain"; }

# ── Where commands run ──────────────────────────────────────────────────────────────────────────────────────────────

# at HOST: fills $at with what puts a command onto that host (a host's vswitch and vsctl share its socket's path).
at() { at=(ip netns exec "vsw-$1" env PATH="$bin:$PATH" VSWITCH_SOCKET="$run/$1/db.sock" VSWITCH_DB="$run/$1/conf.db"); }

# type HOST COMMAND…: shows the command as a person would type it there.
type_() { local host=$1; shift; printf '%s%s#%s %s\n' "$bold" "$host" "$plain" "$*"; }

# on HOST COMMAND…: types and runs it. quietly: runs it only.
on() { type_ "$@"; quietly "$@"; }
quietly() { local at host=$1; shift; at "$host"; "${at[@]}" "$@"; }

# ── What was seen ───────────────────────────────────────────────────────────────────────────────────────────────────

rows=()
failed=0
# row OK WHAT EXPECTED SEEN, where OK is a shell condition's exit code (0 is good).
row() {
    local verdict=ok
    [ "$1" = 0 ] || { verdict=FAILED; failed=$((failed + 1)); }
    rows+=("$verdict|$2|$3|$4")
}

summary() {
    title "Summary"
    local line verdict what expected seen colour
    printf '   %-54s %-26s %-28s\n' what expected seen
    for line in "${rows[@]}"; do
        IFS='|' read -r verdict what expected seen <<<"$line"
        colour=$green; [ "$verdict" = ok ] || colour=$red
        printf '   %-54s %-26s %-28s %s%s%s\n' "$what" "$expected" "$seen" "$colour" "$verdict" "$plain"
    done
    echo
    if [ $failed = 0 ]; then echo "${green}All as expected.${plain}"; else echo "${red}$failed not as expected.${plain}"; fi
}

# answers HOST ADDRESS WHAT / silent HOST ADDRESS WHAT: pings, with what is expected.
answers() {
    local out received
    type_ "$1" "ping -c 3 -i 0.2 $2"
    out=$(quietly "$1" ping -c 3 -i 0.2 "$2") || true
    echo "$out"
    received=$(sed -n 's/.* \([0-9]*\) received.*/\1/p' <<<"$out")
    row $((received != 3)) "$3" "3 of 3 answers" "$received of 3 answers"
}
silent() {
    local out received
    type_ "$1" "ping -c 2 -i 0.2 -W 1 $2"
    out=$(quietly "$1" ping -c 2 -i 0.2 -W 1 "$2") || true
    echo "$out"
    received=$(sed -n 's/.* \([0-9]*\) received.*/\1/p' <<<"$out")
    row $((received != 0)) "$3" "no answer" "$([ "$received" = 0 ] && echo no answer || echo "$received answers")"
}

# ── Building and removing the lab ───────────────────────────────────────────────────────────────────────────────────

start_vswitch() {
    local at host=$1
    type_ "$host" "vswitch &"
    at "$host"
    "${at[@]}" vswitch >"$run/$host/vswitch.log" 2>&1 </dev/null &
    echo $! >"$run/$host/pid"
    for _ in {1..100}; do
        [ -S "$run/$host/db.sock" ] && break
        sleep 0.05
    done
    cat "$run/$host/vswitch.log"
    [ -S "$run/$host/db.sock" ] || { echo "vswitch on $host opened no socket within 5 s"; exit 1; }
}

# Ends what runs in our namespaces, by process id, and removes them.
remove_lab() {
    local name pid
    for name in "${hosts[@]}" "${pods[@]}"; do
        [ -e "/run/netns/vsw-$name" ] || continue
        for pid in $(ip netns pids "vsw-$name"); do kill "$pid" 2>/dev/null || true; done
    done
    for name in "${hosts[@]}" "${pods[@]}"; do
        [ -e "/run/netns/vsw-$name" ] || continue
        for _ in {1..60}; do
            [ -n "$(ip netns pids "vsw-$name")" ] || break
            sleep 0.05
        done
        for pid in $(ip netns pids "vsw-$name"); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del "vsw-$name"
    done
    rm -rf "$run"
}

left_behind() {
    ip netns list | grep -oE '^vsw-(host|pod)[AB]?[12]' || true
    [ ! -e "$run" ] || echo "$run"
}

# On a failure or Ctrl-C: says so, and still leaves nothing behind.
stopped_early() {
    local status=$?
    trap - EXIT INT TERM
    echo
    echo "${red}The demo stopped before its end.${plain} The switches' last words:"
    tail -n 15 "$run"/host*/vswitch.log 2>/dev/null || true
    remove_lab
    exit $((status ? status : 1))
}

# ── The demo ────────────────────────────────────────────────────────────────────────────────────────────────────────

picture() {
    cat <<'PICTURE'

        podA1              podB1                          podA2              podB2
    192.168.60.11      192.168.60.11                  192.168.60.12      192.168.60.12
         │ vmA1             │ vmB1                         │ vmA2             │ vmB2
    ┌────┴────┐        ┌────┴────┐                    ┌────┴────┐        ┌────┴────┐
    │ tenantA │        │ tenantB │                    │ tenantA │        │ tenantB │
    └────┬────┘        └────┬────┘                    └────┬────┘        └────┬────┘
         │ vxlanA 5000      │ vxlanB 6000                  │ vxlanA 5000      │ vxlanB 6000
    ─────┴─── host1 ────────┴───── 10.2.7.200 ══ 10.2.7.201 ─┴──── host2 ─────┴─────
                                   the underlay, eth0
PICTURE
}

demo() {
    [ "$(id -u)" = 0 ] || { echo "The demo needs root: it makes network namespaces." >&2; exit 1; }
    mkdir -m 700 "$run" 2>/dev/null || {
        echo "A lab of an earlier demo is still up ($run). Remove it with: make demo-clean" >&2
        exit 1
    }
    trap stopped_early EXIT
    echo "$bin" >"$run/bin"
    trap 'exit 130' INT TERM
    picture

    title "Two hosts, joined by an underlay link; a pod for each tenant on each host"
    local n tenant
    for n in "${hosts[@]}" "${pods[@]}"; do ip netns add "vsw-$n"; ip -n "vsw-$n" link set lo up; done
    mkdir "$run/host1" "$run/host2"
    note "host1, host2 and the pods are network namespaces on this machine (vsw-host1, vsw-podA1, …)."
    on host1 ip link add eth0 type veth peer name eth0 netns vsw-host2
    for n in 1 2; do
        on host$n ip addr add 10.2.7.$((199 + n))/24 dev eth0
        on host$n ip link set eth0 up
        for tenant in A B; do
            on host$n ip link add vm$tenant$n-sw type veth peer name vm$tenant$n netns vsw-pod$tenant$n
            on host$n ip link set vm$tenant$n-sw up
            on pod$tenant$n ip addr add 192.168.60.1$n/24 dev vm$tenant$n
            on pod$tenant$n ip link set vm$tenant$n up
        done
    done

    for n in 1 2; do
        title "host$n: a switch per tenant, and a tunnel per tenant to the other host"
        note "On a host of its own a vswitch keeps to /run/vswitch and /var/lib/vswitch. These two share a machine:"
        type_ host$n "export VSWITCH_SOCKET=$run/host$n/db.sock VSWITCH_DB=$run/host$n/conf.db"
        start_vswitch host$n
        on host$n vsctl add-br tenantA
        on host$n vsctl add-br tenantB
        on host$n vsctl add-port tenantA vmA$n-sw
        on host$n vsctl add-port tenantB vmB$n-sw
        on host$n vsctl add-port tenantA vxlanA type=vxlan key=5000 remote_ip=10.2.7.$((202 - n))
        on host$n vsctl add-port tenantB vxlanB type=vxlan key=6000 remote_ip=10.2.7.$((202 - n))
        on host$n vsctl show
    done

    title "Both tenants reach their other half, with the same addresses"
    answers podA1 192.168.60.12 "tenant A: podA1 pings podA2 across the hosts"
    answers podB1 192.168.60.12 "tenant B: podB1 pings podB2 across the hosts"
    note "One address, two machines: who answered?"
    who_is podA1 podA2 vmA2
    who_is podB1 podB2 vmB2

    title "What is in tenant A stays in tenant A"
    note "host1 gets an address in tenant A only, on a port of its own in that bridge."
    on host1 vsctl add-port tenantA internalPort type=internal
    on host1 ip addr add 192.168.60.50/24 dev internalPort
    on host1 ip link set internalPort up
    answers podA2 192.168.60.50 "tenant A: podA2 reaches 192.168.60.50"
    silent podB2 192.168.60.50 "tenant B: podB2 cannot (it is in tenant A only)"
    silent podB1 192.168.60.50 "tenant B: nor can podB1, on the same host"

    title "On the wire: VXLAN, one VNI per tenant"
    on_the_wire

    title "TCP with default offloads, MTU 1500 in the pods and on the underlay"
    note "A VXLAN header costs 50 bytes, so these frames don't fit; the switch cuts them smaller on the way out."
    transfer A
    transfer B

    if [ "${KEEP:-0}" = 1 ]; then
        trap - EXIT INT TERM
        summary
        how_to_play
        exit $((failed > 0))
    fi
    title "Cleaning up"
    stop_vswitch host1
    stop_vswitch host2
    remove_lab
    trap - EXIT INT TERM
    local left
    left=$(left_behind)
    row $((${#left} > 0)) "left behind on this machine" "nothing" "${left:-nothing}"
    summary
    exit $((failed > 0))
}

# who_is ASKER OWNER DEVICE: the neighbour that ASKER learned for 192.168.60.12 must be OWNER's device.
who_is() {
    local neighbour mac
    on "$1" ip neigh show 192.168.60.12
    on "$2" cat "/sys/class/net/$3/address"
    neighbour=$(quietly "$1" ip neigh show 192.168.60.12 | sed -n 's/.*lladdr \([^ ]*\).*/\1/p')
    mac=$(quietly "$2" cat "/sys/class/net/$3/address")
    row "$([ "$neighbour" = "$mac" ]; echo $?)" "192.168.60.12, asked by $1, is $2" "$mac" "${neighbour:-nobody}"
}

# Watches the underlay while each tenant pings twice: two requests and two replies with each tenant's VNI.
on_the_wire() {
    local at pid a b
    type_ host2 "tcpdump -nn -i eth0 udp port 4789 | grep -B 1 ICMP &"
    at host2
    "${at[@]}" tcpdump -nn -l -i eth0 udp port 4789 >"$run/wire.txt" 2>"$run/wire.err" &
    pid=$!
    until grep -q 'listening on' "$run/wire.err"; do sleep 0.05; done
    type_ podA1 "ping -c 2 -i 0.2 192.168.60.12"
    quietly podA1 ping -q -c 2 -i 0.2 -W 2 192.168.60.12 >/dev/null || true
    type_ podB1 "ping -c 2 -i 0.2 192.168.60.12"
    quietly podB1 ping -q -c 2 -i 0.2 -W 2 192.168.60.12 >/dev/null || true
    sleep 0.2
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    grep --no-group-separator -B 1 ICMP "$run/wire.txt" || true
    a=$(grep -B 1 ICMP "$run/wire.txt" | grep -c 'vni 5000' || true)
    b=$(grep -B 1 ICMP "$run/wire.txt" | grep -c 'vni 6000' || true)
    row $((a != 4)) "on the underlay: tenant A's pings, as VXLAN" "4 frames of VNI 5000" "$a frames of VNI 5000"
    row $((b != 4)) "on the underlay: tenant B's pings, as VXLAN" "4 frames of VNI 6000" "$b frames of VNI 6000"
}

# transfer TENANT: TCP for three seconds from host1's pod to host2's.
transfer() {
    local out rate mtus
    mtus=$(quietly pod$1"1" cat /sys/class/net/vm$1"1"/mtu)/$(quietly host1 cat /sys/class/net/eth0/mtu)
    on pod$1"2" iperf3 --server --one-off --daemon
    sleep 0.3
    type_ pod$1"1" "iperf3 -c 192.168.60.12 -t 3"
    out=$(quietly pod$1"1" timeout 30 iperf3 -f m -c 192.168.60.12 -t 3 2>&1) || true
    echo "$out"
    rate=$(awk '/receiver/ { for (i = 2; i <= NF; i++) if ($i == "Mbits/sec") print int($(i - 1)) }' <<<"$out")
    row $((${rate:-0} < 100)) "tenant $1: TCP, MTU $mtus in pod/underlay" "over 100 Mbit/s" "${rate:-0} Mbit/s"
}

stop_vswitch() {
    local pid status=0
    pid=$(cat "$run/$1/pid")
    type_ "$1" "kill $pid"
    kill "$pid"
    wait "$pid" || status=$?
    row $status "$1: vswitch ends cleanly on SIGTERM" "exit 0" "exit $status"
}

how_to_play() {
    title "The lab is up"
    cat <<TEXT
   A shell on a host or in a pod (host1 host2 podA1 podA2 podB1 podB2), where vsctl finds its switch:
       tests/demo.sh enter host1
   or one command:
       tests/demo.sh enter host1 vsctl show
       tests/demo.sh enter podA1 ping 192.168.60.12
   The switches' logs: $run/host1/vswitch.log, $run/host2/vswitch.log
   Remove it all:
       make demo-clean
TEXT
}

enter() {
    local at host=$1
    shift
    [ -e "/run/netns/vsw-$host" ] || { echo "There is no $host: bring the lab up with KEEP=1 make demo" >&2; exit 1; }
    at "$host"
    if [ $# -gt 0 ]; then exec "${at[@]}" "$@"; fi
    exec "${at[@]}" PS1="$host# " bash --norc
}

case ${1:-demo} in
demo) demo ;;
enter) shift; enter "${@:?which host or pod?}" ;;
clean)
    remove_lab
    echo "The lab is gone."
    ;;
*) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 1 ;;
esac
