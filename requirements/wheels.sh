#!/bin/sh
# Collect the wheels that a node without network needs beside JAX, flax, optax and orbax:
#
#     requirements/wheels.sh [FOLDER]
#
# For x86-64 Linux and Python 3.12 (PYTHON_VERSION=3.13 and PLATFORM_VERSION=2_39 change that), in
# the versions of the lock. There: python3 -m pip install --no-index --no-deps --target site FOLDER/*.whl
set -eu
cd "$(dirname "$0")/.."
folder=${1:-wheels}
version=${PYTHON_VERSION:-3.12}
names="array-record ase e3nn-jax grain jraph lmdb ml-collections portpicker tensorboardx vesin"
platforms=""
for minor in 5 12 17 24 27 28 31 34 "${PLATFORM_VERSION:-2_35}"; do
    platforms="$platforms --platform manylinux_2_${minor#2_}_x86_64"
done
pins=""
for name in $names; do
    pins="$pins $(sed -n "s/^\($name==[^ ;]*\).*/\1/p" requirements/dev.txt)"
done
python=$([ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 &&
    echo .venv/bin/python || echo python3)
mkdir -p "$folder"
# shellcheck disable=SC2086
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$version" --implementation cp --platform manylinux1_x86_64 \
    --platform manylinux2014_x86_64 $platforms --dest "$folder" $pins
du -sh "$folder"
ls "$folder"
