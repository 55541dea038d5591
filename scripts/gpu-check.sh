#!/usr/bin/env bash
# Checks and measures the CUDA backend on a machine that has an NVIDIA GPU and no Rust.
#
#   scripts/gpu-check.sh pack DIR        here: builds, and gathers in DIR what the other machine needs
#   DIR/gpu-check.sh run OUT.json [STEP...]  there: all of it, or these steps; one JSON
#
# The steps: hello, compile, module, examples (each of them, with an answer to compare), grep (beside GNU grep), bench,
# conformance, panic.
#
# `run` needs bash, python3, GNU grep and awk, and the driver; a C library as new as that of the machine that packed.
# Whatever fails is recorded, and the rest is run all the same; its exit status says whether all went well. It takes
# ten minutes at most. Results are kept under bench/results/, named for GPU and commit.
set -uo pipefail

fail() {
    echo "gpu-check: $*" >&2
    exit 2
}

# What `pack` makes may be copied as one piece to machines that take no more than this.
MAX_MIB=64
# All but this script.
PACK=gpu-check.tar.gz

pack() {
    local out=$1 dir target commit test
    cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
    set -e
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    dir=$(mktemp -d)
    # shellcheck disable=SC2064 # what it is now
    trap "rm -rf '$dir'" EXIT
    mkdir "$dir/bin"
    target=${CARGO_TARGET_DIR:-target}
    # Without PTX there is nothing to check.
    export PTX_REQUIRED=1
    cargo build --release --locked --workspace --examples --bins
    test=$(cargo test --release --locked --workspace --no-run --test cuda --message-format=json |
        python3 -c '
import json, sys
built = [m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")]
print(built[-1])')
    strip -o "$dir/bin/conformance" "$test"
    local example
    for example in 01_hello_file 02_count_lines 03_list_dir 04_async_read 05_own_eviction 06_write_file \
        grep matcher echo http matrix verify; do
        strip -o "$dir/bin/$example" "$target/release/examples/$example"
    done
    strip -o "$dir/bin/bench" "$target/release/bench"
    "$target/release/ptx-build" build -o "$dir/gpu-kernels.ptx"
    cp scripts/compare-grep.sh scripts/check-examples.sh "$dir/"
    # Something to search: this source.
    mkdir "$dir/text"
    git archive HEAD | tar -x -C "$dir/text"
    commit=$(git rev-parse HEAD)
    git diff --quiet HEAD || commit="$commit with changes"
    echo "$commit" >"$dir/commit"
    # Each program has the kernels in it: together they take a quarter of the room.
    tar -C "$dir" -czf "$out/$PACK" .
    cp scripts/gpu-check.sh "$out/"
    local mib
    mib=$(du -sm "$out" | cut -f1)
    [ "$mib" -lt $MAX_MIB ] || fail "$out has $mib MiB, $MAX_MIB are the most"
    echo "$out: $mib MiB"
}

# One step: its name, the seconds that it may take, its command. Leaves status, time and output.
step() {
    local name=$1 seconds=$2 start=$SECONDS status
    shift 2
    [[ " $wanted " == *" $name "* ]] || return
    echo "== $name"
    timeout --kill-after=5 "$seconds" "$@" >"$work/$name.out" 2>&1
    status=$?
    echo "$status $((SECONDS - start))" >"$work/$name.status"
    tail -n 5 "$work/$name.out"
    echo "== $name: status $status after $((SECONDS - start)) s"
}

# Has the driver compile every kernel, as many at a time as there are. Whether they do what they should is not asked here:
# some wait for others, and the GPU is shared.
meet_all() {
    local here=$1 one
    local tests=(hash_clock::reading one_daemon_thread_fifo::reading radix::reading)
    for one in "${tests[@]/%/::past_the_end_and_empty}" hash_clock::sockets::datagrams; do
        "$here/bin/conformance" --exact "$one" >/dev/null 2>&1 &
    done
    timeout 100 "$here/bin/bench" --quick --device cuda >/dev/null 2>&1 &
    bash "$here/check-examples.sh" cuda "$here/bin" 16
    wait
}
export -f meet_all

run() {
    local out pack here step all='hello compile module examples grep bench conformance panic'
    out=$(realpath -m "$1")
    shift
    wanted=${*:-$all}
    for step in "$@"; do [[ " $all " == *" $step "* ]] || fail "no step $step; there are: $all"; done
    pack="$(dirname "${BASH_SOURCE[0]}")/$PACK"
    [ -f "$pack" ] || fail "run the copy that pack made: DIR/gpu-check.sh run OUT.json"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    here=$work/pack
    mkdir "$here"
    tar -C "$here" -xzf "$pack" || fail "$pack is damaged: pack again"
    printf '#!/bin/sh\nexec "%s" --device cuda "$@"\n' "$here/bin/grep" >"$work/grep-cuda"
    chmod +x "$work/grep-cuda"
    cd "$here/text" || exit 2
    export CUDA_REQUIRED=1 BENCH_DIR="$work/bench"

    # What the driver compiles it remembers, if there is room.
    export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-/tmp/gpu-check-cache} CUDA_CACHE_MAXSIZE=4294967296
    # A GPU that nobody has open is put to sleep, and takes seconds to come back.
    if [ -r /dev/nvidia0 ]; then exec 8</dev/nvidia0; fi

    # 545 s at most, all together. The driver takes up to a minute for a kernel when it first meets it, so they are all
    # met at once, by programs of their own, before any is wanted. `module` has the packed PTX, which is that of the
    # programs. A kernel that panics may leave its process without a GPU, so such tests have one to themselves.
    step hello 30 "$here/bin/01_hello_file" README.md --device cuda
    step compile 160 bash -c 'meet_all "$1"' - "$here"
    step module 15 "$here/bin/02_count_lines" Cargo.lock --device cuda --module "$here/gpu-kernels.ptx"
    step examples 60 bash "$here/check-examples.sh" cuda "$here/bin"
    step grep 45 bash "$here/compare-grep.sh" "$work/grep-cuda" gpu-abi gpu-rt gpufs host-daemon
    step bench 85 "$here/bin/bench" --quick --device cuda --json "$work/bench.json"
    step conformance 130 "$here/bin/conformance" --test-threads 4 --skip ::failing::
    step panic 20 "$here/bin/conformance" --test-threads 1 ::failing::
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader \
        >"$work/gpu" 2>/dev/null

    # shellcheck disable=SC2086 # words
    python3 - "$here" "$work" "$out" $wanted <<'PYTHON'
import glob, json, os, platform, re, sys, time

here, work, out, *wanted = sys.argv[1:]

def text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""

def gpus():
    # The driver says it, too, if its tool is not there.
    listed = text(f"{work}/gpu").strip().splitlines()
    models = glob.glob("/proc/driver/nvidia/gpus/*/information")
    version = text("/proc/driver/nvidia/version").strip().splitlines()[:1]
    return listed or [line for model in models for line in text(model).splitlines()[:1]] + version

def cpu():
    names = re.findall(r"^model name\s*: (.*)$", text("/proc/cpuinfo"), re.M)
    return names[0] if names else platform.processor()

steps = {}
for name in wanted:
    status, seconds = map(int, text(f"{work}/{name}.status").split())
    output = text(f"{work}/{name}.out")
    steps[name] = {"ok": status == 0, "status": status, "seconds": seconds, "output": output[-6000:]}

for step in steps.values():
    # Of the tests, and of what the scripts compare.
    if counts := re.search(r"(\d+) passed[,;] (\d+) failed", step["output"]):
        step["passed"], step["failed"] = map(int, counts.groups())
failures = re.findall(r"^test (\S+) \.\.\. FAILED", text(f"{work}/conformance.out"), re.M)
if failures:
    steps["conformance"]["failures"] = failures
try:
    figures = json.loads(text(f"{work}/bench.json") or "[]")
except ValueError:
    # It had no time to write all.
    figures = []

report = {
    "commit": text(f"{here}/commit").strip(),
    "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    "machine": {
        "gpus": gpus(),
        "cpu": cpu(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
    },
    "ok": all(step["ok"] for step in steps.values()),
    "steps": steps,
    "figures": figures,
}
os.makedirs(os.path.dirname(out), exist_ok=True)
with open(out, "w") as file:
    json.dump(report, file, indent=1, ensure_ascii=False)
    file.write("\n")
print(out)
sys.exit(0 if report["ok"] else 1)
PYTHON
}

usage='usage: gpu-check.sh pack DIR | run OUT.json [STEP...]'
case "${1:-} $#" in
"pack 2") pack "$2" ;;
"run 1") fail "$usage" ;;
"run "*) run "${@:2}" ;;
*) fail "$usage" ;;
esac
