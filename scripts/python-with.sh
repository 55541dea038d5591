#!/usr/bin/env bash
# The Python that has a module: scripts/python-with.sh MODULE PIP-ARGUMENT... prints its name.
# That is python3, or else one under target/, into which pip installs what the arguments say. Fails without.
set -euo pipefail
cd "$(dirname "$0")/.."
module=$1
shift

python=python3
if ! python3 -c "import $module" 2>/dev/null; then
    python=target/$module/bin/python
    "$python" -c "import $module" 2>/dev/null || {
        python3 -m venv "target/$module"
        "$python" -m pip install --quiet --disable-pip-version-check "$@"
    } >&2
fi
echo "$python"
