#!/usr/bin/env bash
# Fetches NVIDIA's PTX assembler from the Python package index: scripts/fetch-ptxas.sh [FOLDER]
# Two versions: 13.0, which matches the 13.0 drivers, and 12.9, the last that knows sm_70.
# They land in FOLDER/VERSION/ptxas (default: target/ptxas), where ptx-build looks for them.
# Needs Linux on x86-64, python3 with pip, and about 80 MB of downloads, of which 75 MB stay.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${PTXAS_DIR:-target/ptxas}}

fetch() { # package, version, sha256 of the wheel, path within it
    if [ -x "$folder/$2/ptxas" ]; then
        echo "$folder/$2/ptxas is there already"
        return
    fi
    local work
    work=$(mktemp -d)
    # pip refuses a file with another hash.
    echo "$1==$2 --hash=sha256:$3" >"$work/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 \
        --requirement "$work/requirements.txt" --dest "$work"
    python3 -m zipfile -e "$work"/*.whl "$work/wheel"
    mkdir -p "$folder/$2"
    install -m 755 "$work/wheel/$4" "$folder/$2/ptxas"
    rm -rf "$work"
    "$folder/$2/ptxas" --version | tail -1
}

fetch nvidia-cuda-nvcc 13.0.88 \
    56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03 nvidia/cu13/bin/ptxas
fetch nvidia-cuda-nvcc-cu12 12.9.86 \
    5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0 nvidia/cuda_nvcc/bin/ptxas
