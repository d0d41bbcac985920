# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by bench/run: what a message costs on the disk, and whether its cost depends on what is stored or on how many devices there are.

# cost OPTION...: a load on the gateway that runs; sets $loaded, $cpu_us a message and $load_average
cost() {
    local from
    from=$(cpu_ms "$gateway_pid")
    bench load --port "$mqtt_port" --quiet --warmup 2s --seconds "${seconds_each}s" --drain 60s "$@" >"$work/cost.json" || die "the load was not served: $(cat "$work/cost.json")"
    loaded=$(cat "$work/cost.json")
    cpu_us=$(awk -v ms=$(($(cpu_ms "$gateway_pid") - from)) -v messages="$(field total_acked "$loaded")" 'BEGIN { printf "%.1f", ms * 1000 / messages }')
    load_average=$(cut -d' ' -f1 /proc/loadavg)
}

cost_detail() {
    jq -nc --argjson load "$loaded" --argjson cpu "$cpu_us" --argjson rss "$(status_mb VmRSS "$gateway_pid")" --argjson average "$load_average" \
        '{load: $load, cpu_us: $cpu, rss_mb: $rss, load_average: $average}'
}

bench_cost() {
    local cpu_us load_average missing stored base_cpu='' base_p99="" base_rss="" devices level seconds_each=$((cell > 5 ? cell : 5))
    fresh cost
    boot
    progress "$warmup s warm-up, paced as everything that is measured here: a closed loop would be a backlog itself"
    load --port "$mqtt_port" --rate 2000 --tick 5ms --seconds "${warmup}s" --prefix warm --drain 60s
    for level in 0 $((rows / 10)) "$rows"; do
        missing=$((level - $(query "$home/gateway.db" 'SELECT count(*) FROM wal')))
        if [ "$missing" -gt 0 ]; then
            progress "storing $missing rows"
            load --port "$mqtt_port" --messages "$missing" --prefix "fill$level" --drain 60s
            await_sql 180 "rollup and passthrough have caught up" "$(behind "'rollup','passthrough'")"
        fi
        stored=$(query "$home/gateway.db" 'SELECT count(*) FROM wal')
        progress "cost with $stored rows stored: $seconds_each s"
        cost --rate 2000 --tick 5ms --connections 8 --window 200 --prefix "at$level"
        base_p99=${base_p99:-$(field p99_ms "$loaded")}
        base_cpu=${base_cpu:-$cpu_us}
        result "the gateway's CPU per message with $stored rows stored" "$cpu_us" us "$base_cpu" "with those of the warm-up only" "$(cost_detail)"
        result "p99 of publish to PUBACK with $stored rows stored, at 2,000 msg/s" "$(field p99_ms "$loaded")" ms "$base_p99" "with those of the warm-up only" "$(cost_detail)"
    done
    halt
    # Each device is a connection of its own; the same number of messages is under way.
    base_cpu=''
    base_p99=''
    for devices in 10 1000 10000; do
        [ "$(ulimit -n)" -gt $((devices + 1000)) ] || { progress "NOT MEASURED: $devices devices need more than ulimit -n [$(ulimit -n)]"; continue; }
        rm -f "$home/gateway.db"*
        boot --mqtt.server.connections.max=20000 --mqtt.server.address.connects.per.s=0
        progress "cost with $devices devices: 2,000 messages a second over all of them, $seconds_each s"
        cost_devices "$devices"
        base_cpu=${base_cpu:-$cpu_us}
        base_p99=${base_p99:-$(field p99_ms "$loaded")}
        result "the gateway's CPU per message with $devices devices" "$cpu_us" us "$base_cpu" "with 10 devices" "$(cost_detail)"
        result "p99 of publish to PUBACK with $devices devices at 2,000 msg/s" "$(field p99_ms "$loaded")" ms "$base_p99" "with 10 devices" "$(cost_detail)"
        result "resident memory with $devices devices connected" "$(status_mb VmHWM "$gateway_pid")" MB "${base_rss:=$(status_mb VmHWM "$gateway_pid")}" "with 10 devices" "$(cost_detail)"
        halt
    done
}

# Connecting takes its time and its CPU: only what comes after is counted.
cost_devices() {
    local from
    : >"$work/cost-load.json"
    start "$work/cost-load.json" java -XX:+UseSerialGC -XX:-UsePerfData -Xss512k -Xmx1g -cp "$bench_jar:$root/bench/target/lib/*" io.caravan.bench.Main \
        load --port "$mqtt_port" --quiet --connections "$1" --window 50 --rate 2000 --tick 5ms --warmup "${warmup}s" --seconds "$((seconds_each * 2))s" --drain 60s --prefix "of$1" --marks
    local loading=$started
    await_mark cost-load "$loading" measuring
    from=$(cpu_ms "$gateway_pid")
    await_mark cost-load "$loading" measured
    local spent=$(($(cpu_ms "$gateway_pid") - from))
    # It ends by itself once all is acknowledged.
    while kill -0 "$loading" 2>/dev/null; do sleep 0.2; done
    result_of cost-load "$loading"
    loaded=$ended
    cpu_us=$(awk -v ms="$spent" -v messages="$(field acked "$loaded")" 'BEGIN { printf "%.1f", ms * 1000 / messages }')
    load_average=$(cut -d' ' -f1 /proc/loadavg)
    rm -f "$work/cost-load.json"
}

# store_bytes: of database and WAL together
store_bytes() { stat -c %s "$home/gateway.db" "$home/gateway.db-wal" 2>/dev/null | awk '{s += $1} END {print s}'; }

bench_disk() {
    local messages=$((rows < 200000 ? rows : 200000)) body empty live kept closed stored bare_bytes wal written spent detail
    fresh disk
    boot
    empty=$(store_bytes)
    written=$(written)
    progress "storing $messages messages"
    load --port "$mqtt_port" --messages "$messages"
    body=$(field body_bytes "$loaded")
    stored=$(query "$home/gateway.db" 'SELECT count(*) FROM wal')
    live=$(($(store_bytes) - empty))
    wal=$(stat -c %s "$home/gateway.db-wal")
    spent=$(($(written) - written))
    await_sql 120 "rollup and passthrough have caught up" "$(behind "'rollup','passthrough'")"
    # A stop takes the WAL into the database.
    halt
    closed=$(($(stat -c %s "$home/gateway.db") - empty))
    progress "everything acked is deleted, the space given back"
    cp "$home/gateway.db" "$work/compact.db"
    sqlite3 "$work/compact.db" VACUUM
    kept=$(($(stat -c %s "$work/compact.db") - empty))
    boot --wal.retention.ms=0 --wal.retention.min.ms=0
    local end=$((SECONDS + 120))
    while [ "$(query "$home/gateway.db" 'SELECT count(*) FROM wal' 1)" -gt 1000 ] && [ $SECONDS -lt $end ]; do sleep 0.5; done
    local left after
    left=$(query "$home/gateway.db" 'SELECT count(*) FROM wal')
    # It shrinks step by step; the rest of the WAL goes with the stop.
    local before=0
    while [ "$(store_bytes)" != "$before" ] && [ $SECONDS -lt $((end + 60)) ]; do
        before=$(store_bytes)
        sleep 3
    done
    halt
    after=$(store_bytes)
    bare_bytes=$((stored * body))
    detail=$(jq -nc --argjson stored "$stored" --argjson body "$body" --argjson live "$live" --argjson wal "$wal" --argjson closed "$closed" --argjson compact "$kept" \
        --argjson left "$left" --argjson after "$after" --argjson written "$spent" --argjson average "$(cut -d' ' -f1 /proc/loadavg)" \
        '{rows: $stored, body_bytes: $body, live_bytes: $live, of_which_wal_bytes: $wal, closed_bytes: $closed, vacuumed_bytes: $compact, rows_left: $left, bytes_after_deletion: $after,
          written_bytes: $written, load_average: $average}')
    result "bytes on disk per message, database and WAL under load" "$((live / stored))" bytes "$body" "its body" "$detail"
    result "bytes on disk per message, stopped" "$((closed / stored))" bytes "$body" "its body" "$detail"
    result "bytes on disk per message, compacted (VACUUM of a copy)" "$((kept / stored))" bytes "$body" "its body" "$detail"
    result "bytes written to disk per message" "$((spent / stored))" bytes "$body" "its body" "$detail"
    result "store after every row was delivered and deleted" "$((after / 1024))" KB "$(((live + empty) / 1024))" "the store before" "$detail"
}
