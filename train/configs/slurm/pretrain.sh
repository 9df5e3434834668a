#!/bin/bash
# Pretraining on several nodes under Slurm:  sbatch --nodes 6 pretrain.sh CONFIG [--set key=value ...]
# Saves and ends before the time limit, and queues itself again until the run is finished. Needs the `yulanmini` command
# on all nodes, from a checkout or an installed package alike, and a shared file system.
#SBATCH --job-name=yulanmini
#SBATCH --nodes=6
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=pretrain-%j.log

set -euo pipefail

HOURS=${HOURS:-23.5}             # a little less than --time
GPUS=${GPUS:-8}                  # of a node
MAX_RESTARTS=${MAX_RESTARTS:-3}  # of all ranks, when one was lost, within a job
MAX_REQUEUES=${MAX_REQUEUES:-50} # of the job
LOGS=${LOGS:-logs/$SLURM_JOB_ID} # of each rank

export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=${MASTER_PORT:-29500}
# Packed rows of two lengths and a model that is gathered layer by layer leave fixed segments in pieces.
export PYTORCH_ALLOC_CONF=${PYTORCH_ALLOC_CONF:-expandable_segments:True}
export GPUS MAX_RESTARTS LOGS

# What the run would be refused for is told here once, and not by each rank after each restart.
output=$(yulanmini train pretrain "$@" --dry-run --json | python -c 'import json, sys; print(json.load(sys.stdin)["output_dir"])')

# One launcher a node. SLURM_NODEID is known there only, so it is left to the inner shell. Slurm's early USR1 goes to all
# processes: launchers ignore it, and the ranks, which agree on it and save, have as long as --signal says; a SIGTERM
# would have the launchers kill them after 30 seconds. srun takes --cpus-per-task from its own option only.
code=0
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" bash -c '
  trap "" USR1
  exec yulanmini train pretrain "$@" --accelerate-config several-nodes -- \
    --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * GPUS)) --machine_rank "$SLURM_NODEID" \
    --parallelism_config_dp_replicate_size "$SLURM_NNODES" --parallelism_config_dp_shard_size "$GPUS" \
    --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" \
    --rdzv_backend c10d --max_restarts "$MAX_RESTARTS" --tee 3 --log_dir "$LOGS"
' bash "$@" --max-hours "$HOURS" || code=$?

# Saved in time (0) or ended by a signal (128 and more): the next job goes on. A finished run has a manifest.
if [ "$code" -ne 0 ] && [ "$code" -lt 128 ]; then
  exit "$code"
fi
if [ ! -e "$output/manifest.json" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$MAX_REQUEUES" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
