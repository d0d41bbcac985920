# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# What bin/ and bench/run share. Sourced; sets the shell's options and $root.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=0.1.0
gateway_tar=$root/karaf-assembly/gateway/target/caravan-gateway-$version.tar.gz
cloud_tar=$root/karaf-assembly/cloud/target/caravan-cloud-$version.tar.gz
bench_jar=$root/bench/target/caravan-bench-$version.jar

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# refuse TEXT: as die, of what the caller asked for.
refuse() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# whole OPTION VALUE LEAST [MOST]: refuses a value that is no whole number of this range, as the shell could not count with it.
whole() {
    local most=${4:-999999999}
    if ! [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || [ "$2" -lt "$3" ] || [ "$2" -gt "$most" ]; then refuse "$1 [$2] must be a whole number from $3 to $most"; fi
}

# The bench's command line, on few threads and little memory: it shares the machine with what it drives.
bench() {
    java -XX:+UseSerialGC -XX:-UsePerfData -Xss512k -Xmx384m -cp "$bench_jar:$root/bench/target/lib/*" io.caravan.bench.Main "$@"
}

# What is built, for /version; "unknown" where this is no clone.
commit() {
    git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || say unknown
}

# Prints who listens on TCP port $1, nothing when it is free.
port_holder() {
    local line
    line=$(ss -ltnpH "sport = :$1" 2>/dev/null | head -n 1)
    [ -n "$line" ] || return 0
    local who
    who=$(sed -n 's/.*users:((\(.*\)))$/\1/p' <<<"$line" | sed 's/"//g; s/,fd=[0-9]*//g')
    printf '%s\n' "${who:-a process of another user}"
}

# require_port PORT WHAT HINT
require_port() {
    local holder
    holder=$(port_holder "$1")
    [ -z "$holder" ] || die "port $1 ($2) is taken by [$holder]: stop it, or choose another port with $3"
}

# A free port above 20000 and below those the kernel gives out by itself.
free_port() {
    local port
    for _ in $(seq 200); do
        port=$((20001 + RANDOM % 11000))
        if [ -z "$(port_holder $port)" ]; then
            printf '%s\n' $port
            return
        fi
    done
    die "no free port from 20001 to 31000"
}

# Process groups this script started, the first to be stopped last.
groups=()

# start LOG COMMAND...: in the background, in a process group of its own, so that Ctrl-C reaches only this script,
# which stops them in order. Sets $started.
start() {
    local log=$1
    shift
    setsid "$@" </dev/null >>"$log" 2>&1 &
    started=$!
    groups+=("$started")
}

# stop_group PID [SECONDS]: SIGTERM, then SIGKILL to the whole group.
stop_group() {
    local pid=$1 limit=${2:-15}
    kill -TERM -- "-$pid" 2>/dev/null || return 0
    for _ in $(seq $((limit * 10))); do
        kill -0 -- "-$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 -- "-$pid" 2>/dev/null || return 0
        sleep 0.1
    done
}

stop_all() {
    local i
    for ((i = ${#groups[@]} - 1; i >= 0; i--)); do
        stop_group "${groups[i]}"
    done
    groups=()
}

# http_status PORT PATH: without a process per question, since what is measured runs on the same cores.
http_status() {
    local line
    {
        exec 9<>"/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&9 \
            && IFS= read -r -t 5 line <&9
    } 2>/dev/null || line=
    exec 9<&- 9>&-
    line=${line#* }
    printf '%s\n' "${line%% *}"
}

# await_ready NAME PORT PID SECONDS LOG: until GET /readyz is 200; ends the script when the process dies or time is up.
await_ready() {
    local name=$1 port=$2 pid=$3 limit=$4 log=$5 end
    end=$((SECONDS + limit))
    while [ "$(http_status "$port" /readyz)" != 200 ]; do
        kill -0 "$pid" 2>/dev/null || { tail -n 30 "$log" >&2; die "the $name ended while it started; its output is in $log"; }
        if [ $SECONDS -ge $end ]; then
            curl -s -m 5 "http://127.0.0.1:$port/readyz" >&2 || true
            tail -n 30 "$log" >&2
            die "the $name was not ready after $limit s (GET http://127.0.0.1:$port/readyz); its output is in $log"
        fi
        sleep 0.05
    done
}

# unpack TAR DIR: the distribution without its top folder.
unpack() {
    [ -f "$1" ] || die "[$1] is not built: run bin/build"
    mkdir -p "$2"
    tar -xzf "$1" -C "$2" --strip-components=1
}

# query DB SQL [DEFAULT]: reads a store that another process writes; the default while it does not exist yet.
query() {
    sqlite3 -readonly -cmd '.timeout 5000' "$1" "$2" 2>/dev/null || printf '%s\n' "${3-0}"
}
