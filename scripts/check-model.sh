#!/usr/bin/env bash
# Checks the models docs/*.pml with SPIN: each must hold as it is, and must fail with any of the fences or orders left
# out that it names. Needs spin and a C compiler (Debian: apt install spin gcc). A minute or so.
set -euo pipefail
docs=$(cd "$(dirname "$0")/.." && pwd)/docs
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT

# Prints the number of errors found with macro $1 defined. Most searches end at once: -O2 takes longer than it saves.
errors() {
    spin -D"$1" -a "$model" && cc -w -O1 -DSAFETY -DCOLLAPSE -o pan pan.c
    ./pan -m100000 >pan.out
    if grep -q 'max search depth too small\|out of memory' pan.out; then
        cat pan.out >&2
        exit 2
    fi
    sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out
}

# Checks $model, in a folder of its own.
check() {
    local name failed=0
    name=$(basename "$model" .pml)
    mkdir "$name" && cd "$name"
    if [ "$(errors WHOLE)" = 0 ]; then
        echo "$name holds: $(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.out) states"
    else
        echo "FAILS: $name as it is" && cat pan.out && failed=1
    fi
    # What can be left out is listed at the head of the model.
    for weakening in $(sed -n 's/^ \* *\([A-Z_]*_[A-Z]*[0-9][0-9A-Z]*\) .*/\1/p' "$model"); do
        if [ "$(errors "$weakening")" = 0 ]; then
            echo "FAILS: nothing goes wrong in $name with $weakening" && failed=1
        else
            echo "caught: $name $weakening"
        fi
    done
    return $failed
}

# Side by side.
running=()
for model in "$docs"/*.pml; do
    check &
    running+=($!)
done
failed=0
for one in "${running[@]}"; do
    wait "$one" || failed=1
done
exit $failed
