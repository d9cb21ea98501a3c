#!/usr/bin/env bash
# A Slurm job on one node that continues itself until the run is done; see launch/README.md.
#
#     sbatch [--export=ALL,EXTRA=cuda12] launch/slurm.sh CONFIG WORKDIR [--config.key=value ...]
#
#SBATCH --job-name=atomjax
#SBATCH --nodes=1
#SBATCH --ntasks=1
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

if [ "${1:-}" = --dry-run ]; then
    exec launch/node.sh "$@"
fi
child=
trap '[ -z "$child" ] || kill -TERM $child' TERM
launch/node.sh "$@" &
child=$!
# A signal ends the wait before the run has saved and ended.
while wait $child; status=$?; kill -0 $child 2>/dev/null; do :; done
# 143: stopped by SIGTERM with its state saved. Anything else is the end of the run, good or bad.
if [ $status -eq 143 ]; then
    echo "time is up; requeued to continue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
