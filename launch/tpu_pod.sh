#!/usr/bin/env bash
# Runs a config on all hosts of a Cloud TPU slice, from your workstation, and again after each
# preemption until the run is done; see launch/README.md.
#
#     TPU=... ZONE=... TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite NFS=HOST:/SHARE \
#         launch/tpu_pod.sh [--dry-run] CONFIG WORKDIR [--config.key=value ...]
#
# NFS is mounted at /shared on every host; WORKDIR has to be there. SPOT=no makes an on-demand
# slice. The slice is made where it does not exist, and left for you to delete.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

dry=
if [ "${1:-}" = --dry-run ]; then
    dry=yes
    shift
fi
for name in TPU ZONE TYPE VERSION NFS; do
    [ -n "${!name:-}" ] || set --
done
if [ $# -lt 2 ]; then
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
config=$1 workdir=$2
shift 2
case $workdir in
/shared/*) ;;
*)
    echo "error: WORKDIR=$workdir is not under /shared, which all hosts have in common" >&2
    exit 2
    ;;
esac

tpu=(gcloud compute tpus tpu-vm)
spot=(--spot)
[ "${SPOT:-yes}" = yes ] || spot=()
archive=/tmp/atomjax-$TPU.tar.gz
describe=("${tpu[@]}" describe "$TPU" "--zone=$ZONE" "--format=value(state)")
delete=("${tpu[@]}" delete "$TPU" "--zone=$ZONE" --quiet)
create=("${tpu[@]}" create "$TPU" "--zone=$ZONE" "--accelerator-type=$TYPE" "--version=$VERSION")
create+=(${spot[@]+"${spot[@]}"})
pack=(git archive --format=tar.gz "--output=$archive" HEAD)
copy=("${tpu[@]}" scp "$archive" "$TPU:atomjax.tar.gz" "--zone=$ZONE" --worker=all)
prepare="sudo mkdir -p /shared && { mountpoint -q /shared || sudo mount -t nfs $NFS /shared; }"
# A run whose connection broke goes on; it saves and ends on SIGTERM.
prepare+=" && while pkill -TERM -f '[a]tomjax.launch'; do sleep 5; done"
prepare+=" && mkdir -p atomjax && tar xzf atomjax.tar.gz -C atomjax"
prepare+=" && make -C atomjax --no-print-directory install EXTRA=tpu"
train=".venv/bin/python -m atomjax.launch --distributed"
train+=$(printf ' %q' --config "$config" --workdir "$workdir" "$@")
# The hosts' statuses come back as lines: gcloud's own says only that some host failed.
train="cd atomjax && $train; echo atomjax ended with status \$?"
on_all=("${tpu[@]}" ssh "$TPU" "--zone=$ZONE" --worker=all)

if [ -n "$dry" ]; then
    show() { printf '%q ' "$@"; echo; }
    show "${describe[@]}"
    show "${create[@]}"
    show "${pack[@]}"
    show "${copy[@]}"
    show "${on_all[@]}" "--command=$prepare"
    show "${on_all[@]}" "--command=$train"
    exit
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${pack[@]}" || exit
for ((restart = 0; restart <= ${MAX_RESTARTS:-10}; restart++)); do
    state=$("${describe[@]}" 2>/dev/null)
    case $state in
    READY) ;;
    "") "${create[@]}" || exit ;;
    *)
        echo "$TPU is $state; making it anew"
        "${delete[@]}" && "${create[@]}" || exit
        ;;
    esac
    : >"$log"
    "${copy[@]}" && "${on_all[@]}" "--command=$prepare" &&
        "${on_all[@]}" "--command=$train" 2>&1 | tee "$log"
    ended=$(sed -n 's/^.*atomjax ended with status \([0-9]*\).*$/\1/p' "$log" | sort -u)
    # 1 and 2: the run failed or its config is wrong, on the host that says so.
    for status in 1 2; do
        ! grep -qx $status <<<"$ended" || exit $status
    done
    if [ "$ended" = 0 ]; then
        exit 0
    fi
    echo "hosts ended with status ${ended:-unknown (preempted?)}; continuing from the last checkpoint"
    sleep "${PAUSE:-30}"
done
echo "error: not done after MAX_RESTARTS=${MAX_RESTARTS:-10} restarts" >&2
exit 75
