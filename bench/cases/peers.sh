# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by bench/run: one workload for the gateway and for what would be used in its place. Each peer is a function start_NAME that starts its
# processes and sets $peer_pids, the first of which is the one that is killed. Peers are installed below bench/target/peers, where they stay.

artemis_version=2.40.0
node_red_version=4.1.8
peers_dir=$root/bench/target/peers
# What a figure of each means. Read it beside the figure: they do not promise the same.
declare -A peer_durability=(
    [caravan]="fsync before PUBACK (SQLite WAL, synchronous=FULL); full routes: validated, routed, rolled up"
    [mosquitto]="none: memory only; the figure is what reaches a subscriber"
    [mosquitto-persistent]="none at PUBACK: written each second (autosave_interval 1), not synced"
    [artemis]="fsync before PUBACK (journal-datasync=true, NIO): the same promise as the gateway's"
    [nats]="written to a file before PUBACK, synced every two minutes; version 2.9 has no sync_interval, so it cannot be made equal"
    [node-red]="none: the mqtt node acknowledges on arrival, the file node writes without sync; the figure is what came into the file"
    [node-red-fsync]="none at PUBACK: a function node appends and syncs each message, but the mqtt node acknowledges before; the figure is what came into the file"
)
# Messages per second that Node-RED is offered first, at least and at most. Its broker acknowledges whatever comes, and Node-RED reads before it writes: of
# much more than it takes it writes next to nothing, and what waits does so for minutes.
peer_offer=6000
peer_offer_least=750
peer_offer_most=24000
# The rest speak version 5.
declare -A peer_version=([nats]=3)

# unavailable NAME WHY: said loudly and left out; a peer that is not measured has no figures.
unavailable() {
    progress "NOT MEASURED: $1: $2"
    left_out+=("$1: $2")
}

install_peer() {
    mkdir -p "$peers_dir"
    case $1 in
        caravan) ;;
        mosquitto*) "$root/bin/install-deps" --mosquitto || return 1 ;;
        artemis)
            [ -x "$peers_dir/apache-artemis-$artemis_version/bin/artemis" ] && return
            progress "fetching Artemis $artemis_version"
            mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy "-Dartifact=org.apache.activemq:apache-artemis:$artemis_version:zip:bin" \
                "-DoutputDirectory=$peers_dir" >"$peers_dir/artemis.log" 2>&1 || return 1
            (cd "$peers_dir" && jar xf "apache-artemis-$artemis_version-bin.zip" && rm "apache-artemis-$artemis_version-bin.zip") || return 1
            chmod +x "$peers_dir/apache-artemis-$artemis_version/bin/artemis"
            ;;
        nats)
            command -v nats-server >/dev/null && return
            # A package of a server; nothing of it is left switched on.
            local run=()
            [ "$(id -u)" = 0 ] || run=(sudo -n)
            "${run[@]}" apt-get install -y --no-install-recommends nats-server >"$peers_dir/nats.log" 2>&1 || return 1
            "${run[@]}" systemctl disable --now nats-server >/dev/null 2>&1 || true
            ;;
        node-red*)
            "$root/bin/install-deps" --mosquitto || return 1
            [ -f "$peers_dir/node-red/node_modules/node-red/red.js" ] && return
            progress "fetching Node-RED $node_red_version"
            mkdir -p "$peers_dir/node-red"
            npm install --no-audit --no-fund --prefix "$peers_dir/node-red" "node-red@$node_red_version" >"$peers_dir/node-red.log" 2>&1 || return 1
            ;;
    esac
}

start_caravan() {
    # As it comes: the listener, all routes, and nobody to send to.
    start "$work/caravan.log" "$home/bin/caravan" run "--http.port=$http_port" "--mqtt.server.port=$peer_port" "--wal.path=$home/gateway.db" \
        "--gateway.id=bench" "--uplink.url=wss://127.0.0.1:1" "--uplink.token.file=$home/gateway.token" --device.access=open
    peer_pids=("$started")
}

start_broker() {
    start "$work/$peer.log" mosquitto -c "$work/$peer.conf"
    peer_pids=("$started")
}
start_mosquitto() { start_broker; }
start_mosquitto-persistent() { start_broker; }

start_artemis() {
    start "$work/artemis.log" "$data/artemis/bin/artemis" run
    peer_pids=("$started")
}

start_nats() {
    start "$work/nats.log" nats-server -c "$work/nats.conf"
    peer_pids=("$started")
}

start_node-red() {
    local broker=${peer_pids[1]-}
    # A killed Node-RED comes back to the broker that was there all the time.
    if [ -z "$broker" ] || ! kill -0 "$broker" 2>/dev/null; then
        start "$work/$peer-broker.log" mosquitto -c "$work/$peer.conf"
        broker=$started
    fi
    start "$work/$peer.log" node "$peers_dir/node-red/node_modules/node-red/red.js" -u "$data/$peer" -s "$data/$peer/settings.js" flows.json
    peer_pids=("$started" "$broker")
}
start_node-red-fsync() { start_node-red; }

# A broker's queue has no limit here: the default drops what it has acknowledged when a thousand messages wait. As root it would give up what it needs to write here.
broker_conf() {
    printf 'listener %s 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 0\nuser %s\n' "$peer_port" "$(id -un)" >"$work/$peer.conf"
    printf '%s\n' "$@" >>"$work/$peer.conf"
}

# prepare DIR: where $peer keeps what it keeps
prepare() {
    data=$1
    peer_port=$(free_port)
    peer_pids=()
    peer_file=
    peer_pace=()
    case $peer in
        caravan)
            fresh peer-caravan "$data"
            peer_port=$mqtt_port
            ;;
        mosquitto) broker_conf "persistence false" ;;
        mosquitto-persistent)
            mkdir -p "$data/mosquitto"
            broker_conf "persistence true" "persistence_location $data/mosquitto/" "autosave_interval 1"
            ;;
        artemis)
            "$peers_dir/apache-artemis-$artemis_version/bin/artemis" create "$data/artemis" --user admin --password admin --allow-anonymous --no-amqp-acceptor \
                --no-hornetq-acceptor --no-stomp-acceptor --no-web --nio --host 127.0.0.1 --silent \
                --default-port "$(free_port)" >"$work/artemis-create.log" 2>&1 || die "artemis create failed: see $work/artemis-create.log"
            grep -q '<journal-datasync>true</journal-datasync>' "$data/artemis/etc/broker.xml" || die "Artemis does not sync its journal: no fair comparison"
            sed -i "s|:1883?|:$peer_port?|" "$data/artemis/etc/broker.xml"
            # Without it a full disk of the machine stops it at 90 %.
            sed -i 's|<max-disk-usage>[0-9]*</max-disk-usage>|<max-disk-usage>99</max-disk-usage>|' "$data/artemis/etc/broker.xml"
            sed -i 's/-Xms[0-9]*[MmGg] -Xmx[0-9]*[MmGg]/-Xms512M -Xmx512M/' "$data/artemis/etc/artemis.profile"
            ;;
        nats)
            printf 'server_name: bench\nlisten: 127.0.0.1:%s\njetstream { store_dir: "%s", max_file_store: 8000000000 }\nmqtt { listen: 127.0.0.1:%s }\n' \
                "$(free_port)" "$data/nats" "$peer_port" >"$work/nats.conf"
            ;;
        node-red*)
            broker_conf "persistence false"
            peer_file=$data/$peer.ndjson
            peer_pace=(--rate $peer_offer)
            mkdir -p "$data/$peer"
            printf 'module.exports = {uiPort: %s, uiHost: "127.0.0.1", httpAdminRoot: false, functionGlobalContext: {fs: require("fs")}};\n' "$(free_port)" >"$data/$peer/settings.js"
            node_red_flow >"$data/$peer/flows.json"
            ;;
    esac
}

node_red_flow() {
    local body='msg.payload = msg.payload.toString("utf8"); return msg;'
    # shellcheck disable=SC2016 # JavaScript
    [ "$peer" = node-red ] || body='const fs = global.get("fs"); let fd = context.get("fd"); if (fd === undefined) { fd = fs.openSync("FILE", "a"); context.set("fd", fd); } fs.writeSync(fd, msg.payload.toString("utf8") + "\n"); fs.fsyncSync(fd); return null;'
    jq -n --argjson port "$peer_port" --arg file "$peer_file" --arg body "${body//FILE/$peer_file}" '[
        {id: "t", type: "tab", label: "bench"},
        {id: "b", type: "mqtt-broker", broker: "127.0.0.1", port: $port, clientid: "node-red", autoConnect: true, protocolVersion: "5", cleansession: false,
         sessionExpiry: "86400", keepalive: "60", usetls: false, autoUnsubscribe: false},
        {id: "i", type: "mqtt in", z: "t", topic: "devices/+/telemetry", qos: "1", datatype: "buffer", broker: "b", nl: false, rap: true, rh: 0, inputs: 0, wires: [["f"]]},
        {id: "f", type: "function", z: "t", func: $body, outputs: 1, wires: [["o"]]},
        {id: "o", type: "file", z: "t", filename: $file, filenameType: "str", appendNewline: true, createDir: false, overwriteFile: "false", encoding: "none", wires: [[]]}]'
}

# peer_cpu, peer_rss: of all its processes, children included; ms and MB
peer_tree() {
    local pid
    for pid in "${peer_pids[@]}"; do ps -o pid= -g "$pid"; done
}
peer_cpu() {
    local pid sum=0
    for pid in $(peer_tree); do sum=$((sum + $(cpu_ms "$pid" 2>/dev/null || echo 0))); done
    say $sum
}
peer_rss() {
    local pid sum=0
    for pid in $(peer_tree); do sum=$((sum + $(status_mb VmRSS "$pid" 2>/dev/null || echo 0))); done
    say $sum
}

# peer_boot: starts $peer and sets $first_ack, seconds until it kept a message (of Node-RED: until it was in the file)
peer_boot() {
    local begin options=()
    [ -z "$peer_file" ] || options=(--file "$peer_file")
    : >"$work/first.err"
    java -XX:+UseSerialGC -XX:-UsePerfData -Xss512k -Xmx384m -cp "$bench_jar:$root/bench/target/lib/*" io.caravan.bench.Main first-ack --port "$peer_port" "${options[@]}" \
        >"$work/first.json" 2>"$work/first.err" &
    local asking=$!
    # Its JVM is up before what it asks is.
    until grep -q ready "$work/first.err"; do kill -0 $asking || die "the first message could not be sent: $(cat "$work/first.err")"; sleep 0.05; done
    begin=$(now_ms)
    "start_$peer"
    wait $asking || die "$peer acknowledged nothing: $(cat "$work/first.err"); $(tail -n 5 "$work"/*"$peer"*.log 2>/dev/null)"
    first_ack=$(awk -v from="$begin" -v to="$(field at_ms "$(cat "$work/first.json")")" 'BEGIN { printf "%.2f", (to - from) / 1e3 }')
}

peer_load() { loaded=$(bench load --port "$peer_port" --mqtt "${peer_version[$peer]-5}" --quiet "$@") || [ -n "$loaded" ] || die "the load was not served by $peer"; }
lines() { if [ -f "$1" ]; then wc -l <"$1"; else say 0; fi; }

# file_step RATE OPTION...: adds to $steps what came into $peer_file while RATE was offered, and whether that was all; sets $loaded and $cpu to the load and what it took
file_step() {
    local rate=$1 there first from before written
    shift
    before=$(peer_cpu)
    there=$(lines "$peer_file")
    in_background cell load --port "$peer_port" --mqtt "${peer_version[$peer]-5}" --quiet --marks --rate "$rate" "$@"
    await_mark cell "$background" measuring
    first=$(lines "$peer_file")
    from=$(now_ms)
    await_mark cell "$background" measured
    written=$((($(lines "$peer_file") - first) * 1000 / ($(now_ms) - from)))
    # Its acknowledgements come by themselves; a signal would give up those on their way.
    while kill -0 "$background" 2>/dev/null; do sleep 0.1; done
    result_of cell "$background"
    loaded=$ended
    await_lines $((there + $(field total_acked "$loaded")))
    cpu=$(($(peer_cpu) - before))
    # Offered is what its broker took, not what was meant to be sent. More than that is what waited since before; a twentieth may be on its way when the time is over.
    steps=$(jq -c --argjson written "$written" --argjson load "$loaded" \
        '. + [{offered: ($load.rate | round), value: ([$written, $load.rate] | min | round), kept_up: ($written >= 0.95 * $load.rate)}]' <<<"$steps")
}

# file_load OPTION...: offers more, or less, until it is known what is kept up with. Sets $value to the most lines a second there were, $loaded and $cpu to the load and
# the CPU of then, $steps to all, and $offered to what was offered at last if that was kept up with; else to null.
file_load() {
    local rate=$peer_offer low=0 high=0 halved=0 best='' best_cpu
    value=-1
    steps='[]'
    offered=null
    while [ "$rate" -ge $peer_offer_least ] && [ "$rate" -le $peer_offer_most ] && [ $halved -le 2 ]; do
        file_step "$rate" "$@"
        if [ "$(jq '.[-1].kept_up' <<<"$steps")" = true ]; then low=$rate; else high=$rate; fi
        if [ "$(jq '.[-1].value' <<<"$steps")" -gt "$value" ]; then
            value=$(jq '.[-1].value' <<<"$steps")
            best=$loaded
            best_cpu=$cpu
        fi
        if [ $high = 0 ]; then
            rate=$((rate * 2))
        elif [ $low = 0 ]; then
            rate=$((rate / 2))
        else
            rate=$(((low + high) / 2))
            halved=$((halved + 1))
        fi
    done
    loaded=$best
    cpu=$best_cpu
    [ $high != 0 ] || offered=$(jq '.[-1].offered' <<<"$steps")
}

# peer_cells: the workload on what runs, each cell a line of $work/peers.jsonl
peer_cells() {
    local publishers in_flight cpu options value steps offered
    # The same for all: code is compiled before it counts.
    peer_load "${peer_pace[@]}" --connections 16 --window 200 --seconds "$((warmup < 6 ? warmup : 6))s" --prefix warm --drain 30s
    [ -z "$peer_file" ] || await_lines
    for publishers in ${publishers_of//,/ }; do
        for in_flight in 100 1000; do
            # What was kept is taken out where each second all of it is written again.
            [ "$peer" != mosquitto-persistent ] || bench consume --port "$peer_port" --to /dev/null --idle 1s >/dev/null
            options=(--connections "$publishers" --window "$in_flight" --warmup 1s --seconds "${cell}s" --prefix "p$publishers-$in_flight" --drain 30s)
            steps=null
            offered=null
            if [ -n "$peer_file" ]; then
                file_load "${options[@]}"
            else
                [ "$peer" != mosquitto ] || options+=(--subscribe)
                cpu=$(peer_cpu)
                peer_load "${options[@]}"
                cpu=$(($(peer_cpu) - cpu))
                value=$(field rate "$loaded")
                # Where the acknowledgement is a broker's that keeps nothing, what came through counts.
                [ "$peer" != mosquitto ] || value=$(jq '.delivered / .seconds | round' <<<"$loaded")
            fi
            jq -nc --arg peer "$peer" --argjson p "$publishers" --argjson w "$in_flight" --argjson value "$value" --argjson load "$loaded" --argjson cpu "$cpu" --argjson rss "$(peer_rss)" \
                --argjson start "$first_ack" --arg durability "${peer_durability[$peer]}" --argjson average "$(cut -d' ' -f1 /proc/loadavg)" \
                --argjson steps "$steps" --argjson offered "$offered" \
                '{peer: $peer, publishers: $p, window: $w, value: $value, all_of_offered: $offered, steps: $steps, acked_per_s: $load.rate, p50_ms: $load.p50_ms, p99_ms: $load.p99_ms, unacked: $load.unacked, body_bytes: $load.body_bytes,
                  rss_mb: $rss, cpu_s_per_100k: (if $load.total_acked > 0 then $cpu * 100 / $load.total_acked | . * 100 | round / 100 else null end),
                  start_to_first_ack_s: $start, durability: $durability, load_average: $average}' >>"$work/peers.jsonl"
        done
    done
}

# await_lines [COUNT]: Node-RED is behind the broker: until the file has so many or stays as it is for 5 s, so that a cell does not pay for the one before, and
# what only waits is not called lost.
await_lines() {
    local before=-1 now same=0 end=$((SECONDS + 180))
    while [ $same -lt 5 ]; do
        now=$(lines "$peer_file")
        [ "$now" != "${1-}" ] || return 0
        if [ "$now" = "$before" ]; then same=$((same + 1)); else same=0; fi
        [ $SECONDS -lt $end ] || die "$peer still wrote after 3 minutes: its queue cannot be told from a loss; use a quieter machine"
        before=$now
        sleep 1
    done
}

# under_load NAME WHAT...: does WHAT while acknowledgements come, and ends the load; they are noted in $promised
under_load() {
    local name=$1 loading
    shift
    promised=$work/$peer.$name.acked
    in_background "$name-$peer" load --port "$peer_port" --mqtt "${peer_version[$peer]-5}" ${peer_file:+--rate 1500} --connections 4 --window 100 --quiet --prefix "$name" \
        --drain 0s --ack-log "$promised"
    loading=$background
    until [ "$(lines "$promised")" -gt 1000 ]; do kill -0 "$loading" || die "the load on $peer ended: $(tail -n 3 "$work/$name-$peer.json")"; sleep 0.2; done
    sleep "$cell"
    "$@"
    # The generator before the peer: what it would send again must not hide what is gone.
    stop_group "$loading" 10
}

# peer_gone PID...: SIGKILL of its groups, taken notice of, so that the shell does not say so
peer_gone() {
    local pid
    for pid in "$@"; do kill -KILL -- "-$pid"; done
    for pid in "$@"; do
        wait "$pid" 2>/dev/null || true
        # What it had started too: a file of theirs would keep the disk.
        while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.05; done
    done
}

# Of Node-RED not its broker, of whose acknowledgements it lives.
peer_killed() { peer_gone "${peer_pids[0]}"; }

# A disk whose power can be cut, at $power: an ext4 in a file, on a loop device; else $no_cut says why not
power_on() {
    power=$work/power
    if [ "$(id -u)" != 0 ] || [ ! -e /dev/loop-control ] || ! command -v mkfs.ext4 >/dev/null || ! command -v perl >/dev/null; then
        no_cut="it takes root, a loop device, mkfs.ext4 and perl"
        return 1
    fi
    mkdir -p "$power"
    truncate -s 6G "$power.img"
    mkfs.ext4 -q -F "$power.img"
    mount -o loop "$power.img" "$power" || { no_cut="a loop device could not be mounted"; return 1; }
}

# At one moment nothing is answered any more, and nothing written: neither data nor the file system's journal. What the disk had been given by then is
# what it has. It keeps all of that; a drive with a volatile cache takes more from those who do not sync, and nothing from those who do.
power_cut() {
    local pid
    for pid in "${peer_pids[@]}"; do kill -STOP -- "-$pid"; done
    # EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, made for tests of file systems.
    perl -e 'open(my $d, "<", $ARGV[0]) or die "$ARGV[0]: $!\n"; my $flags = pack("L", 2); defined(ioctl($d, 0x8004587D, $flags)) or die "EXT4_IOC_SHUTDOWN: $!\n"' "$power"
    peer_gone "${peer_pids[@]}"
    umount "$power"
    mount -o loop "$power.img" "$power"
}

power_off() {
    umount "$power"
    rm -f "$work/power.img"
}

# peer_lost: starts $peer again and prints what the application behind lacks of $promised
peer_lost() {
    local status=0 options=(--port "$peer_port" --mqtt "${peer_version[$peer]-5}")
    "start_$peer"
    case $peer in
        caravan)
            await_ready gateway "$http_port" "${peer_pids[0]}" 180 "$work/caravan.log"
            lost=$(bench loss --acked "$promised" --db "$home/gateway.db") || status=$?
            ;;
        node-red*)
            until [ -n "$(port_holder "$(sed -n 's/.*uiPort: \([0-9]*\).*/\1/p' "$data/$peer/settings.js")")" ]; do
                kill -0 "${peer_pids[0]}" || die "$peer did not start again: $(tail -n 3 "$work/$peer.log")"
                sleep 0.2
            done
            await_lines
            lost=$(bench loss --acked "$promised" --lines "$peer_file") || status=$?
            ;;
        *)
            bench consume "${options[@]}" --to "$promised.arrived" --idle 8s >"$work/consume.json" 2>"$work/consume.err" || true
            # A broker that starts slowly: the session is taken up when it is there.
            local end=$((SECONDS + 60))
            until [ -s "$work/consume.json" ] || [ $SECONDS -gt $end ]; do
                sleep 1
                bench consume "${options[@]}" --to "$promised.arrived" --idle 8s >"$work/consume.json" 2>"$work/consume.err" || true
            done
            [ -s "$work/consume.json" ] || die "$peer does not answer when it was started again: $(tail -n 3 "$work/consume.err")"
            lost=$(bench loss --acked "$promised" --lines "$promised.arrived") || status=$?
            ;;
    esac
    [ $status -le 1 ] || die "the loss of $peer could not be told: $lost"
}

# A session that is owed every message, and nobody to take them: the peer has to keep them, as the gateway does.
peer_session() { case $peer in caravan | node-red*) ;; *) bench consume --port "$peer_port" --mqtt "${peer_version[$peer]-5}" >/dev/null ;; esac; }

peer_stop() {
    local pid
    for pid in "${peer_pids[@]}"; do stop_group "$pid"; done
}

# peer_cuts: $cuts power cuts of a new installation; sets $cut to the sum of what they took, null where it cannot be done
peer_cuts() {
    local number
    cut=null
    : >"$work/$peer.cuts"
    if [ "$cuts" = 0 ] || ! power_on; then return; fi
    prepare "$power"
    # It was installed, and its subscriber came, long ago.
    sync -f "$power"
    peer_boot
    peer_session
    case $peer in
        mosquitto-persistent)
            kill -USR1 -- "-${peer_pids[0]}"
            until [ -s "$data/mosquitto/mosquitto.db" ]; do sleep 0.1; done
            ;;
    esac
    sync -f "$power"
    for number in $(seq "$cuts"); do
        under_load "cut-$number" power_cut
        peer_lost
        say "$lost" >>"$work/$peer.cuts"
    done
    cut=$(jq -sc '{cuts: length, acked: (map(.acked) | add), lost: (map(.lost) | add), lost_each: map(.lost)}' "$work/$peer.cuts")
    peer_stop
    power_off
}

bench_peers() {
    local peer peer_port peer_file peer_pace=() data power no_cut='' first_ack promised lost killed cut wanted=() left_out=() ours line name
    : >"$work/peers.jsonl"
    : >"$work/kills.jsonl"
    for peer in ${peers//,/ }; do
        if install_peer "$peer"; then wanted+=("$peer"); else unavailable "$peer" "it could not be installed: $(tail -n 1 "$peers_dir/${peer%%-fsync}.log" 2>/dev/null)"; fi
    done
    for peer in "${wanted[@]}"; do
        progress "$peer: ${peer_durability[$peer]}"
        prepare "$work"
        peer_boot
        # mosquitto without a store passes messages on.
        [ "$peer" = mosquitto ] || peer_session
        peer_cells
        [ "$peer" != mosquitto ] || peer_session
        under_load kill peer_killed
        peer_lost
        killed=$lost
        peer_stop
        peer_cuts
        jq -nc --arg peer "$peer" --argjson killed "$killed" --argjson cut "$cut" --arg durability "${peer_durability[$peer]}" \
            '{peer: $peer, killed: $killed, cut: $cut, durability: $durability}' >>"$work/kills.jsonl"
    done
    [ -z "$no_cut" ] || unavailable "power cuts" "$no_cut"
    while IFS= read -r line; do
        name="$(field peer "$line"), $(field publishers "$line") publishers, window $(field window "$line")$(jq -r '.all_of_offered // empty | ", all of \(.) offered"' <<<"$line")"
        ours=$(jq -s --argjson l "$line" '[.[] | select(.peer == "caravan" and .publishers == $l.publishers and .window == $l.window) | .value] | first // null' "$work/peers.jsonl")
        result "messages per second: $name" "$(field value "$line")" "msg/s" "$ours" "the gateway, same run, same load" "$line"
    done <"$work/peers.jsonl"
    while IFS= read -r line; do
        result "lost by kill -9: $(field peer "$line")" "$(field killed.lost "$line")" messages "$(field killed.acked "$line")" "acknowledged before" "$line"
        [ "$(field cut "$line")" = null ] || result "lost by power cuts: $(field peer "$line")" "$(field cut.lost "$line")" messages "$(field cut.acked "$line")" "acknowledged before" "$line"
    done <"$work/kills.jsonl"
    # A loss of ours is a fault; a loss of a peer is a finding.
    [ "$(jq -s '[.[] | select(.peer == "caravan") | .killed.lost, .cut.lost] | add // 0' "$work/kills.jsonl")" = 0 ] || failed="$failed peers: the gateway lost what it had acknowledged;"
    peers_table >&2
    if $save; then peers_table >"$root/bench/results/$(date -u +%Y-%m-%d)-peers.md"; fi
    if [ ${#left_out[@]} -gt 0 ]; then progress "NOT MEASURED: ${left_out[*]}"; fi
}

# The figures side by side: all cells for the rate, one in the middle for latency and CPU.
peers_table() {
    local middle
    middle=$(tr ',' '\n' <<<"$publishers_of" | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}')
    printf '<!-- SPDX-License-Identifier: Apache-2.0 -->\n# Peers, one workload\n\n%s\n\n' "$(jq -r '"\(.date), \(.cores) cores (\(.cpu)), Java \(.java), commit \(.commit). 300 bytes of JSON, QoS 1, the generator on the same cores."' <<<"$environment")"
    printf '| system | msg/s with %s publishers (window 100) | the same (window 1000) | ack p50, p99 at window 100, %s publishers | RSS | CPU per 100,000 | start to first ack | lost by kill -9, of acknowledged | lost by power cuts, of acknowledged | durability | load average |\n|---|---|---|---|---|---|---|---|---|---|---|\n' "${publishers_of//,/, }" "$middle"
    jq -rs --argjson middle "$middle" --slurpfile kills "$work/kills.jsonl" 'def cells(w): [.[] | select(.window == w) | "\(.value | round)\(if .all_of_offered then " (all of \(.all_of_offered) offered)" else "" end)"] | join(", ");
        group_by(.peer) | sort_by(-([.[].value] | max))[] | . as $rows | (.[] | select(.publishers == $middle and .window == 100)) as $four
        | ($kills[] | select(.peer == $four.peer)) as $kill
        | "| \($four.peer) | \($rows | cells(100)) | \($rows | cells(1000)) | \($four.p50_ms), \($four.p99_ms) ms | \([$rows[].rss_mb] | max) MB | \($four.cpu_s_per_100k) s | \($four.start_to_first_ack_s) s | \($kill.killed.lost) of \($kill.killed.acked) | \($kill.cut | if . == null then "not run" else "\(.lost) of \(.acked)" end) | \($four.durability) | \([$rows[].load_average] | add / length * 10 | round / 10) |"' "$work/peers.jsonl"
    for line in "${left_out[@]}"; do printf '\nNot measured: %s\n' "$line"; done
}
