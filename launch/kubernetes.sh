#!/usr/bin/env bash
# Submits a Kubernetes job of one or several pods; see launch/README.md.
#
#     IMAGE=... CLAIM=... [PODS=4] [GPUS=8] [NAME=atomjax] [MAX_RESTARTS=10] \
#         launch/kubernetes.sh [--dry-run] CONFIG WORKDIR [--config.key=value ...]
#
# IMAGE holds the checkout, installed, in /atomjax. CLAIM is a ReadWriteMany volume; it is mounted
# at /shared, where WORKDIR has to be.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

apply=(kubectl apply -f -)
if [ "${1:-}" = --dry-run ]; then
    apply=(cat)
    shift
fi
if [ $# -lt 2 ] || [ -z "${IMAGE:-}" ] || [ -z "${CLAIM:-}" ]; then
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
config=$1 workdir=$2
shift 2
case $workdir in
/shared/*) ;;
*)
    echo "error: WORKDIR=$workdir is not under /shared, which all pods have in common" >&2
    exit 2
    ;;
esac

# A JSON list is YAML too, whatever the arguments contain.
quoted() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}
words=(.venv/bin/python -m atomjax.launch --config "$config" --workdir "$workdir" "$@")
COMMAND=$(quoted "${words[0]}")
for word in "${words[@]:1}"; do
    COMMAND+=", $(quoted "$word")"
done
COMMAND="[$COMMAND]"
NAME=${NAME:-atomjax} PODS=${PODS:-1} GPUS=${GPUS:-1} FAILURES=$((${MAX_RESTARTS:-10} * PODS))

text=$(cat "$here/kubernetes.yaml")
for key in NAME PODS GPUS FAILURES IMAGE CLAIM COMMAND; do
    text=${text//"\${$key}"/"${!key}"}
done
"${apply[@]}" <<<"$text"
