# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by bench/run: hours of a quiet load, and whether anything grows.

# Most that may be added in an hour; what a JVM, a page cache of SQLite and a log file do by themselves is less. A gateway that deletes nothing
# adds a gigabyte an hour to its disk at 500 messages a second, one that leaks a buffer for each message 500 MB.
soak_bounds=(gateway_heap_mb=10 gateway_direct_mb=5 gateway_nonheap_mb=10 gateway_rss_mb=30 gateway_threads=2 gateway_handles=3 gateway_wal_mb=10 gateway_disk_mb=50
    cloud_heap_mb=10 cloud_direct_mb=5 cloud_nonheap_mb=10 cloud_rss_mb=30 cloud_threads=2 cloud_handles=3)

# soak_numbers NAME PID HTTP_PORT HEAP: a process as JSON; with HEAP true also what is left of its heap after a full collection.
soak_numbers() {
    local name=$1 pid=$2 port=$3 heap=null metrics
    if $4; then
        jcmd "$pid" GC.run >/dev/null || die "[jcmd $pid GC.run] failed: without it nothing can be said of the $name's heap"
    fi
    metrics=$(curl -s -m 10 "http://127.0.0.1:$port/metrics") || die "the $name does not answer: see $work"
    ! $4 || heap=$(awk '/^jvm_gc_live_data_size_bytes/ {printf "%.3f", $NF / 1048576}' <<<"$metrics")
    jq -nc --arg name "$name" --argjson heap "$heap" \
        --argjson direct "$(awk '/^jvm_buffer_memory_used_bytes\{id="direct"/ {printf "%.3f", $NF / 1048576}' <<<"$metrics")" \
        --argjson nonheap "$(awk '/^jvm_memory_used_bytes\{area="nonheap"/ {sum += $NF} END {printf "%.3f", sum / 1048576}' <<<"$metrics")" \
        --argjson rss "$(awk '$1 == "VmRSS:" {printf "%.3f", $2 / 1024}' "/proc/$pid/status")" \
        --argjson threads "$(awk '$1 == "Threads:" {print $2}' "/proc/$pid/status")" --argjson handles "$(find "/proc/$pid/fd" -mindepth 1 | wc -l)" \
        '{"\($name)_heap_mb": $heap, "\($name)_direct_mb": $direct, "\($name)_nonheap_mb": $nonheap, "\($name)_rss_mb": $rss, "\($name)_threads": $threads, "\($name)_handles": $handles}
         | with_entries(select(.value != null))'
}

bench_soak() {
    local certs=$work/certs cloud=$work/cloud cloud_port cloud_pid port loading end interval n=0 heap verdict limit soak_rate=${soak_rate:-500} span
    span=$(awk -v hours="$hours" 'BEGIN { printf "%.0f", hours * 3600 }')
    # Some 700 bytes of the file sink and 40 of the log of promises a message.
    limit=$(awk -v s="$span" -v r="$soak_rate" 'BEGIN { printf "%.0f", s * r * 740 / 1048576 + 1024 }')
    [ "$(df -Pm "$dir" | awk 'NR == 2 {print $4}')" -gt "$limit" ] || die "[$dir] has not the $limit MB that $hours hours of $soak_rate msg/s need: choose another --dir"
    interval=$(awk -v s="$span" 'BEGIN { i = s / 120; if (i < 1) i = 1; if (i > 60) i = 60; printf "%.1f", i }')

    fresh soak
    "$root/mosquitto/certs" init "$certs" >"$work/certs.log" 2>&1 || die "certificates could not be made: see $work/certs.log"
    "$root/mosquitto/certs" server "$certs" cloud localhost 127.0.0.1 >>"$work/certs.log" 2>&1 || die "certificates could not be made: see $work/certs.log"
    printf 'bench = sha256:%s\n' "$(tr -d '\n' <"$home/gateway.token" | sha256sum | cut -d' ' -f1)" >"$work/gateways"
    cloud_port=$(free_port)
    port=$(free_port)
    unpack "$cloud_tar" "$cloud"
    start "$cloud.log" "$cloud/bin/caravan" run "--http.port=$cloud_port" "--store.path=$work/cloud.db" "--uplink.port=$port" \
        "--uplink.tls.cert=$certs/cloud.crt" "--uplink.tls.key=$certs/cloud.key" "--uplink.gateways.file=$work/gateways"
    cloud_pid=$started
    await_ready cloud "$cloud_port" "$cloud_pid" 180 "$cloud.log"
    uplink_url=wss://localhost:$port
    # A minute of acked rows is kept, so that deleting is part of what is watched and disk can be flat within the run.
    boot "--uplink.ca.file=$certs/ca.crt" --wal.retention.ms=60000 "--sink.file.directory=$work/arrived"
    uplink_url=
    shell "feature:install caravan-sink-file"
    progress "$soak_rate msg/s of 50 devices for $hours h: gateway with file sink, uplink over TLS to a cloud; a sample every $interval s, no faults"
    in_background load load --port "$mqtt_port" --connections 50 --window 200 --rate "$soak_rate" --tick 5ms --quiet --ack-log "$work/acked" \
        --latency-log "$work/load.hlog" --drain 60s
    loading=$background
    await_sql 60 "the file sink is there" "SELECT count(*) = 1 FROM ledger WHERE sink = 'file'"
    local from third
    from=$(now_ms)
    end=$((SECONDS + span))
    while [ $SECONDS -lt $end ]; do
        kill -0 "$gateway_pid" && kill -0 "$cloud_pid" && kill -0 "$loading" || die "a process ended during the soak: see $work"
        heap=$([ $((n % 3)) = 0 ] && echo true || echo false)
        jq -nc --argjson ms "$(now_ms)" --argjson gateway "$(soak_numbers gateway "$gateway_pid" "$http_port" "$heap")" \
            --argjson cloud "$(soak_numbers cloud "$cloud_pid" "$cloud_port" "$heap")" \
            --argjson wal "$(stat -c %s "$home/gateway.db-wal" | awk '{printf "%.3f", $1 / 1048576}')" \
            --argjson disk "$(du -sk "$home/gateway.db"* "$home/data" | awk '{s += $1} END {printf "%.3f", s / 1024}')" \
            --argjson there "$(du -sk "$work/cloud.db"* | awk '{s += $1} END {printf "%.3f", s / 1024}')" --argjson load "$(cut -d' ' -f1 /proc/loadavg)" \
            '{ms: $ms} + $gateway + $cloud + {gateway_wal_mb: $wal, gateway_disk_mb: $disk, cloud_store_mb: $there, load_average: $load}' >>"$work/soak.jsonl"
        n=$((n + 1))
        sleep "$interval"
    done
    third=$((($(now_ms) - from) / 3))
    result_of load "$loading"
    local live=$ended
    [ "$(field unacked "$live")" = 0 ] || die "messages of the load were not acknowledged: $live"
    await_sql 120 "the sinks have everything" "$(behind "'file','rollup','passthrough'")"
    [ "$(query "$home/gateway.db" 'SELECT sum(abs(unaccounted)) + sum(dead) FROM ledger' 1)" = 0 ] || die "the books do not balance: $(query "$home/gateway.db" 'SELECT * FROM ledger')"
    local loss first_p99 last_p99 options=() bound detail name
    loss=$(bench loss --acked "$work/acked" --files "$work/arrived") || die "what was acknowledged did not arrive: $loss"
    first_p99=$(bench quantiles --log "$work/load.hlog" --from "$((from + third / 2))" --to "$((from + third))")
    last_p99=$(bench quantiles --log "$work/load.hlog" --from "$((from + 2 * third))" --to "$((from + 3 * third))")
    for bound in "${soak_bounds[@]}"; do options+=(--bound "$bound"); done
    verdict=$(bench soak-verdict --samples "$work/soak.jsonl" "${options[@]}") || [ $? -le 3 ] || die "the samples could not be judged: $verdict"
    [ -n "$verdict" ] || die "the samples could not be judged: see $work/soak.jsonl"
    detail=$(jq -nc --argjson verdict "$verdict" --argjson loss "$loss" --argjson load "$live" --argjson average "$(jq -s 'map(.load_average) | add / length * 100 | round / 100' "$work/soak.jsonl")" \
        --argjson store "$(jq -sc '[first.cloud_store_mb, last.cloud_store_mb]' "$work/soak.jsonl")" \
        '{hours: $verdict.hours, judged_hours: $verdict.judged_hours, loss: $loss, load: $load, load_average: $average, cloud_store_mb: $store}')
    for name in $(jq -r '.series | keys_unsorted[]' <<<"$verdict"); do
        result "growth of $name, $(jq -r --arg n "$name" '.series[$n].verdict' <<<"$verdict")" "$(jq --arg n "$name" '.series[$n].per_hour' <<<"$verdict")" "per hour" \
            "$(jq --arg n "$name" '.series[$n].bound' <<<"$verdict")" "bound" "$(jq -c --arg n "$name" '.series[$n]' <<<"$verdict")"
    done
    result "p99 of publish to PUBACK, last third" "$(field ingest.p99_ms "$last_p99")" ms "$(field ingest.p99_ms "$first_p99")" "second sixth of the run" "$detail"
    result "messages acknowledged that did not arrive at the file sink" "$(field lost "$loss")" messages "$(field acked "$loss")" "acknowledged" "$detail"
    ! grep -q '"GROWS"' <<<"$verdict" || failed="$failed soak: $(jq -c '.series | with_entries(select(.value.verdict == "GROWS")) | keys' <<<"$verdict") grows beyond its bound;"
    if $save; then cp "$work/soak.jsonl" "$root/bench/results/$(date -u +%Y-%m-%d)-soak-samples.jsonl"; fi
    halt
    stop_group "$cloud_pid"
}
