# Sourced by the other scripts: makes .venv with the pinned dependencies, once for each change of them.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export VIRTUAL_ENV_DISABLE_PROMPT=1

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "✗ Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2
    exit 2
}

# The stamp is what the environment was made from: another pin or another extra makes it again.
ensure_venv() {
    local stamp
    stamp=$(cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum)
    if [ -f "$root/.venv/.stamp" ] && [ "$(cat "$root/.venv/.stamp")" = "$stamp" ]; then
        return
    fi
    echo "Setting up $root/.venv ..." >&2
    local python
    python=$(find_python)
    [ -x "$root/.venv/bin/python" ] || "$python" -m venv "$root/.venv"
    # torch comes first and by its exact pin: left to a range, pip may fetch another build of several gigabytes.
    "$root/.venv/bin/pip" install --quiet --disable-pip-version-check "$(grep '^torch==' "$root/scripts/constraints.txt")"
    "$root/.venv/bin/pip" install --quiet --disable-pip-version-check \
        --constraint "$root/scripts/constraints.txt" --editable "$root[dev,bench]"
    echo "$stamp" >"$root/.venv/.stamp"
}
