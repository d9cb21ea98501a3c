#!/usr/bin/env bash
# A Slurm job, on one node or several, that continues itself until the run is done; see
# launch/README.md. One process for each task; each uses all devices that its task sees.
#
#     sbatch [--nodes=4 --gres=gpu:8] [--export=ALL,EXTRA=cuda12] \
#         launch/slurm.sh [--dry-run] CONFIG WORKDIR [--config.key=value ...]
#
#SBATCH --job-name=atomjax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# The run saves its state on SIGTERM; it gets five minutes for that before the time limit.
#SBATCH --signal=B:TERM@300
set -uo pipefail
# Slurm runs a copy of this script, so its own path says nothing; the job starts in the checkout.
cd "${SLURM_SUBMIT_DIR:?run me with sbatch, from the checkout; without Slurm use launch/node.sh}"

dry=
if [ "${1:-}" = --dry-run ]; then
    dry=yes
    shift
fi
tasks=${SLURM_NTASKS:-1}
if [ "$tasks" -le 1 ]; then
    command=(launch/node.sh ${dry:+--dry-run} "$@")
    stop() { kill -TERM "$child"; }
else
    if [ $# -lt 2 ]; then
        echo "usage: sbatch launch/slurm.sh [--dry-run] CONFIG WORKDIR [--config.key=value ...]" >&2
        exit 2
    fi
    config=$1 workdir=$2
    shift 2
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    # Jobs that share a node must not share a port.
    export JAX_COORDINATOR_ADDRESS=$first:$((20000 + SLURM_JOB_ID % 20000))
    export JAX_NUM_PROCESSES=$tasks
    # Which srun does not take over from the job.
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    install=(make --no-print-directory install "EXTRA=${EXTRA:-cpu}")
    # shellcheck disable=SC2016  # the tasks fill their number in
    command=(
        srun --kill-on-bad-exit=0 --wait=300
        bash -c 'JAX_PROCESS_ID=$SLURM_PROCID exec "$@"' task
        .venv/bin/python -m atomjax.launch --config "$config" --workdir "$workdir" "$@"
    )
    # Signals every task of the job, but not this script.
    stop() { scancel --signal=TERM "$SLURM_JOB_ID"; }
    if [ -n "$dry" ]; then
        printf '%q ' "${install[@]}"; echo
        printf '%s ' "JAX_COORDINATOR_ADDRESS=$JAX_COORDINATOR_ADDRESS" "JAX_NUM_PROCESSES=$tasks"
        printf '%q ' "${command[@]}"; echo
        exit
    fi
    # Once, here: the nodes share the checkout.
    "${install[@]}" || exit
fi
if [ -n "$dry" ]; then
    exec "${command[@]}"
fi
child=
trap '[ -z "$child" ] || stop' TERM
"${command[@]}" &
child=$!
# A signal ends the wait before the run has saved and ended.
while wait $child; status=$?; kill -0 $child 2>/dev/null; do :; done
requeue() {
    job=$(scontrol show job --oneliner "$SLURM_JOB_ID")
    # A job that Slurm is ending would come back too, also after scancel, which nobody wants.
    if [[ $job =~ JobState=(CANCELLED|COMPLETING) && ! $job =~ PreemptTime=[0-9] ]]; then
        echo "the job was cancelled, so it is not requeued; submit it again to continue"
    else
        echo "$1"
        scontrol requeue "$SLURM_JOB_ID"
    fi
}
# 143: stopped by SIGTERM with its state saved. 75, 134 and 137: a process was lost or killed.
# Anything else is the end of the run, good or bad.
case $status in
143) requeue "time is up; requeued to continue" ;;
75 | 134 | 137)
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_RESTARTS:-10}" ]; then
        requeue "a process was lost (status $status); requeued to continue from the last checkpoint"
    else
        echo "a process was lost (status $status), after MAX_RESTARTS=${MAX_RESTARTS:-10} restarts"
    fi
    ;;
esac
exit $status
