#!/usr/bin/env bash
# Whether the matcher finds what NumPy does: scripts/compare-numpy.sh [MATCHER]
# NumPy is installed by pip under target/, unless python3 has it. Without, says so and ends well;
# NUMPY_REQUIRED=1 makes that a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
matcher=${1:-target/release/examples/matcher}

if ! python=$(scripts/python-with.sh numpy 'numpy>=1.24,<3'); then
    echo "skipped: NumPy is not here and cannot be installed (NUMPY_REQUIRED=1 makes this a failure)"
    [ "${NUMPY_REQUIRED:-0}" != 1 ]
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
for shape in '64x64' '20x30 --color' '7x5'; do
    # shellcheck disable=SC2086 # the shape is several words
    "$matcher" --generate "$work" --images 500 --databases 3 --seed 5 --size $shape >/dev/null
    # shellcheck disable=SC2086
    "$matcher" --pack "$work/queries.records" --databases "$work/queries" --size $shape >/dev/null
    for find in '' '--first' '-n 5' '--first -n 3'; do
        for threshold in 0 60.5 800 1e9; do
            # shellcheck disable=SC2086
            set -- $find --threshold "$threshold" --queries "$work/queries.records" \
                --databases "$work"/databases/*.records
            "$matcher" "$@" >"$work/ours" || [ $? = 1 ]
            "$python" scripts/matcher-numpy.py "$@" >"$work/theirs"
            cmp "$work/ours" "$work/theirs" || { echo "differs: $shape $find $threshold"; exit 1; }
            passed=$((passed + 1))
        done
    done
done
echo "$passed searches find what NumPy does"
