#!/bin/sh
# Build the sdist and the wheel, check both, and try the wheel in a clean environment, away from
# the checkout:
#
#     requirements/smoke.sh [PYTHON] [FOLDER]
#
# FOLDER takes the two files; without one they go when it is done. PIP=... adds options of pip.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dist=${2:-$work/dist}
"$python" -m venv "$work/build"
# shellcheck disable=SC2086
"$work/build/bin/python" -m pip install --quiet --disable-pip-version-check ${PIP:-} build twine
"$work/build/bin/python" -m build --outdir "$dist" . >"$work/log" || { cat "$work/log"; exit 1; }
"$work/build/bin/python" -m twine check --strict "$dist"/atomjax-*

"$python" -m venv "$work/site"
# shellcheck disable=SC2086
"$work/site/bin/python" -m pip install --quiet --disable-pip-version-check ${PIP:-} \
    "$dist"/atomjax-*.whl
mkdir "$work/elsewhere"
cd "$work/elsewhere"
site=$work/site/bin
"$site/python" -c "
import sys, time
began = time.perf_counter()
import atomjax
seconds = time.perf_counter() - began
assert 'jax' not in sys.modules and 'numpy' not in sys.modules, 'atomjax alone needs neither'
assert seconds < 0.3, f'importing atomjax took {seconds:.3f} s'
print(f'atomjax {atomjax.__version__}, Python {sys.version.split()[0]}: imported in {seconds:.3f} s')
"
"$site/atomjax" --help >help
"$site/python" -m atomjax.launch --config quickstart --validate
"$site/atomjax" generate slabs --count 4 --workers 1 --output slabs.xyz
"$site/atomjax" features slabs.xyz --output features.npz
"$site/atomjax" download >downloads

# The lines of docs/python.md as they stand, on shaken ethanol.
"$site/python" -c "
import sys
from pathlib import Path
sys.path.insert(0, '$root')
from tests.own_files import write_files
write_files(Path())
"
cp train.xyz mine.xyz
cp test.xyz oxides.xyz
cp frames16.xyz aspirin.xyz
"$site/atomjax" train train.xyz --validation validation.xyz --workdir runs/mine \
    --config.train.epochs=40 >training
sed -n '/^```python$/,/^```$/p' "$root/docs/python.md" | grep -v '^```' >ten_lines.py
"$site/python" ten_lines.py
echo "the wheel works with $("$site/python" --version)"
