#!/usr/bin/env bash
# Runs a config on all devices of this machine; see launch/README.md.
#
#     [EXTRA=cuda12] launch/node.sh [--dry-run] CONFIG WORKDIR [--config.key=value ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run=()
if [ "${1:-}" = --dry-run ]; then
    run=(printf '%q ')
    shift
fi
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
config=$1 workdir=$2
shift 2
install=(make --no-print-directory install "EXTRA=${EXTRA:-cpu}")
train=(.venv/bin/python -m atomjax.launch --config "$config" --workdir "$workdir" "$@")

if [ ${#run[@]} -gt 0 ]; then
    "${run[@]}" "${install[@]}"; echo
    "${run[@]}" "${train[@]}"; echo
    exit
fi
"${install[@]}"
# exec, so that a signal to this script is a signal to the run.
exec "${train[@]}"
