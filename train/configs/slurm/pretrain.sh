#!/bin/bash
# Pretraining on several nodes under Slurm:  sbatch --nodes 6 train/configs/slurm/pretrain.sh CONFIG [--set ...]
# Ends by itself before the time limit with a checkpoint, and queues itself again until the run is finished.
#SBATCH --job-name=yulanmini
#SBATCH --nodes=6
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --output=pretrain-%j.log

set -euo pipefail

HOURS=${HOURS:-23.5} # a little less than --time
GPUS=${GPUS:-8}
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=${MASTER_PORT:-29500}
# As in the published run.
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-max_split_size_mb:128}

# One launcher a node; SLURM_NODEID is known on the node only, so it is left to the inner shell. `exec` lets Slurm's
# SIGTERM reach the launcher, which hands it to the ranks.
srun --kill-on-bad-exit=1 bash -c '
  exec accelerate launch \
    --config_file train/configs/accelerate/several-nodes.yaml \
    --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * '"$GPUS"')) --machine_rank "$SLURM_NODEID" \
    --parallelism_config_dp_replicate_size "$SLURM_NNODES" \
    --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" \
    train/pretrain.py "$@"' bash "$@" --max-hours "$HOURS"

# A finished run has a manifest; one stopped by --max-hours has none and resumes in the next job.
OUTPUT=$(python - "$@" <<'PYTHON'
import sys
from train.config import PretrainConfig
from train.config_file import load_config
from train.pretrain import parse_arguments
options = parse_arguments(sys.argv[1:])
print(load_config(PretrainConfig, options.config, options.set).output_dir)
PYTHON
)
[ -e "$OUTPUT/manifest.json" ] || scontrol requeue "$SLURM_JOB_ID"
