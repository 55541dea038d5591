#!/usr/bin/env bash
# Whether verify's patterns and distances are scikit-image's: scripts/compare-skimage.sh [VERIFY]
# scikit-image is installed by pip under target/, unless python3 has it. Without, says so and ends well;
# SKIMAGE_REQUIRED=1 makes that a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
verify=${1:-target/release/examples/verify}

if ! python=$(scripts/python-with.sh skimage --only-binary :all: 'scikit-image>=0.22,<1'); then
    echo "skipped: scikit-image is not here and cannot be installed (SKIMAGE_REQUIRED=1 makes this a failure)"
    [ "${SKIMAGE_REQUIRED:-0}" != 1 ]
    exit
fi

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
# Cells of one pixel have its pattern and nothing else; lanes share the cells of an image.
while read -r size grid method lanes; do
    rm -rf "$work"/*
    "$python" scripts/verify-skimage.py images "$work/images" "$size"
    "$verify" --enroll "$work/store" --images "$work/images" --size "$size" --grid "$grid" --method "$method" >"$work/made"
    : >"$work/said"
    "$verify" --listen 127.0.0.1:0 --store "$work/store" --threshold 0.5 --lanes "$lanes" >"$work/said" &
    server=$!
    for _ in $(seq 200); do
        addr=$(head -n 1 "$work/said")
        [ -z "$addr" ] || break
        sleep 0.05
    done
    "$python" scripts/verify-skimage.py compare "$work/images" "$work/store/references.lbp" "$addr" 0.5
    kill -INT "$server"
    wait "$server"
    server=
done <<'END'
128x128 8x8 nri_uniform 1
128x128 8x8 uniform 1
96x80 6x5 default 7
36x28 36x28 default 1
300x4 300x4 default 32
7x150 7x150 nri_uniform 3
1x1 1x1 default 1
END
