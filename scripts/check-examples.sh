#!/usr/bin/env bash
# Starts every example on a device, and compares what it says with what coreutils, GNU grep, the emulated device or
# its own client say: scripts/check-examples.sh DEVICE BIN [JOBS]. BIN is where the examples are; what they read is
# in the current directory, which is that of this source. JOBS are tried at a time, 1 unless it says otherwise.
set -uo pipefail
device=$1
bin=$(realpath "$2")
jobs=${3:-1}
all=$(mktemp -d)
trap 'rm -rf "$all"' EXIT

# What must hold of the last example, and what it is called.
check() {
    if "${@:2}"; then
        printf 'ok: %s\n' "$1"
    else
        printf 'FAILED on %s: %s\n' "$device" "$1"
        tail -n 5 "$work/out" "$work/err" 2>/dev/null
    fi
}

example() { # name and arguments
    "$bin/$1" --device "$device" "${@:2}" >"$work/out" 2>"$work/err"
}
says() { grep -qF -- "$1" "$work/out" "$work/err"; }

# Starts a server and leaves its address in $addr: a GPU's driver has a kernel to compile first.
start() { # name and arguments
    : >"$work/served"
    "$bin/$1" --device "$device" --listen 127.0.0.1:0 --warps 2 "${@:2}" >>"$work/served" 2>"$work/err" &
    server=$!
    trap 'kill -KILL $server 2>/dev/null' EXIT
    addr=
    for _ in {1..900}; do
        read -r addr <"$work/served" && return
        kill -0 "$server" 2>/dev/null || return 1
        sleep 0.1
    done
}
# Ends it as Ctrl-C does.
stop() {
    kill -INT "$server" && wait "$server"
}
client() { # name and arguments
    timeout 60 "$bin/$1" --connect "$addr" "${@:2}" >"$work/out" 2>"$work/err"
}

hello_file() {
    example 01_hello_file LICENSE-MIT
    check 01_hello_file says "block 1: $(wc -c <LICENSE-MIT) bytes"
}
count_lines() {
    example 02_count_lines Cargo.lock
    check 02_count_lines says "Cargo.lock: $(wc -l <Cargo.lock) lines, $(wc -c <Cargo.lock) bytes, 0 errors"
}
list_dir() {
    example 03_list_dir gpufs
    check 03_list_dir says "$(find gpufs -mindepth 1 -maxdepth 1 | wc -l) entries, 1 of them directories"
}
async_read() {
    local sum
    sum=$(head -c 8192 Cargo.lock | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) sum += $i } END { print sum }')
    example 04_async_read Cargo.lock
    check 04_async_read says "bytes add up to $sum"
}
own_eviction() {
    example 05_own_eviction
    check 05_own_eviction says 'settle: 43.3 % of look-ups hit'
}
write_file() {
    for thread in {00000..01023}; do printf 'thread %s wrote this line\n' "$thread"; done >"$work/lines"
    example 06_write_file "$work/lines.txt"
    # Each line fills its place with spaces.
    check 06_write_file cmp -s "$work/lines" <(sed 's/ *$//' "$work/lines.txt")
}
grep_() {
    example grep -rn 'unsafe fn' gpu-abi
    check grep cmp -s "$work/out" <(grep -n 'unsafe fn' $(find gpu-abi -type f | LC_ALL=C sort))
}
matcher() {
    "$bin/matcher" --generate "$work/images" --images 300 --databases 2 >/dev/null
    local search=(--queries "$work"/images/queries/query-0[0-3].png --databases "$work/images/databases" --threshold 700)
    example matcher "${search[@]}"
    check matcher cmp -s "$work/out" <("$bin/matcher" "${search[@]}")
}
echo_() {
    start echo
    check 'a client of echo' client echo --clients 4 --seconds 1
    check echo stop
}
matrix() {
    start matrix
    check 'a client of matrix' client matrix --side 16 --products 3
    check matrix stop
}
verify() {
    "$bin/verify" --generate "$work/faces" --identities 50 >/dev/null
    start verify --store "$work/faces"
    check 'a client of verify' client verify --store "$work/faces" --connections 2 --requests 200
    check verify stop
}
http() {
    start http --root .
    check 'a file by http' python3 -c '
import sys, urllib.request
with urllib.request.urlopen("http://" + sys.argv[1] + "/README.md", timeout=60) as reply:
    sys.exit(reply.read() != open("README.md", "rb").read())' "$addr"
    check http stop
}

# Those first whose kernels a GPU's driver takes longest for.
for one in grep_ http verify own_eviction async_read matcher write_file list_dir hello_file count_lines echo_ matrix; do
    [ "$(jobs -rp | wc -l)" -lt "$jobs" ] || wait -n
    work=$all/$one
    mkdir "$work"
    "$one" | tee "$all/$one.said" &
done
wait

passed=$(cat "$all"/*.said | grep -c '^ok: ')
failed=$(cat "$all"/*.said | grep -c '^FAILED on ')
printf '%s: %s passed, %s failed\n' "$device" "$passed" "$failed"
# Each of them says something.
[ "$failed" = 0 ] && [ "$passed" -ge 16 ]
