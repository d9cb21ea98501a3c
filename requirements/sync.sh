#!/bin/sh
# Make or reuse .venv and install a lock into it, then the checkout itself:
#
#     requirements/sync.sh LOCK        (LOCK: cpu, dev, cuda12, cuda13, tpu or convert)
#
# Uses uv where it is on PATH, else venv and pip. PYTHON=... picks the interpreter of a new .venv.
set -eu
cd "$(dirname "$0")/.."
lock=requirements/$1.txt
torch=requirements/torch-cpu.txt
if [ ! -f "$lock" ] || [ "$lock" = "$torch" ]; then
    echo "sync: there is no lock $lock; choose one of:" \
        $(ls requirements/*.txt | grep -v "^$torch\$") >&2
    exit 2
fi
uv=$(command -v uv || true)

# Runs each candidate: a name on PATH may be a version manager's shim that starts nothing.
suitable() {
    modules="sys"
    [ -n "$uv" ] || modules="sys, venv, ensurepip"
    "$1" -c "import $modules; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3.12 python3.11 python3 python}; do
        if suitable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

if ! suitable .venv/bin/python; then
    python=$(find_python)
    rm -rf .venv
    if [ -n "$uv" ]; then
        # Without a suitable interpreter uv can bring one.
        "$uv" venv --quiet --python "${python:-3.12}" .venv
    elif [ -n "$python" ]; then
        "$python" -m venv .venv
    else
        echo "sync: no Python >= 3.11 with the venv module found (${PYTHON:-python3.12, python3.11," \
            "python3, python} tried); install one, e.g. the Debian packages python3 and" \
            "python3-venv, or set PYTHON=/path/to/python" >&2
        exit 1
    fi
fi

uv_install() {
    "$uv" pip install --quiet --no-deps --python .venv/bin/python "$@"
}

# The locks are complete and hashed, so the resolver has nothing left to decide.
if [ -n "$uv" ]; then
    uv_install --require-hashes -r "$lock"
    uv_install --no-build-isolation -e .
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --require-hashes --no-deps -r "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --no-deps --no-build-isolation -e .
fi

# PyTorch's own index is asked for PyTorch alone, and not for long: it may be out of reach. With
# torch in place the second command takes the rest from where everything else comes from.
install_torch() {
    pinned=$(grep '^torch==' "$torch")
    index=https://download.pytorch.org/whl/cpu
    if [ -n "$uv" ]; then
        # uv does not read pip's configuration, where a machine may name a folder of wheels.
        links=${PIP_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
        # Unlike pip, it gives up when one of several places is out of reach: so one by one.
        { [ -n "$links" ] && uv_install --find-links "$links" "$pinned"; } ||
            UV_HTTP_TIMEOUT=20 UV_HTTP_RETRIES=1 uv_install --index-strategy unsafe-best-match \
                --extra-index-url $index "$pinned" || return
        uv_install -r "$torch"
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
            --retries 1 --timeout 20 --extra-index-url $index "$pinned" &&
            .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
                -r "$torch"
    fi
}

if [ "$1" = dev ]; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! install_torch >"$log" 2>&1; then
        echo "sync: no CPU build of PyTorch for this machine ($(tail -n 1 "$log")):" \
            "tests/convert/test_with_torch.py and test_lightning_files.py will be skipped" >&2
    fi
fi
