#!/usr/bin/env bash
#SBATCH --job-name=nla
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --requeue
# Ray on all nodes of a SLURM allocation, and `dvc` on the first one. In a clone on the shared file system, after
# `make setup`:
#   sbatch cluster/slurm.sh                                     # dvc repro
#   sbatch cluster/slurm.sh exp run -S tune.num_samples=64      # any other dvc command
# With GPUs: sbatch --gpus-per-node=4 cluster/slurm.sh. Submit it again to resume.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?run this with sbatch}"
# shellcheck disable=SC1091
source .venv/bin/activate

if (($# == 0)); then
    set -- repro
fi
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"  # for this allocation only
export RAY_AUTH_TOKEN
address="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head --lines=1):6379"

export RAY_gcs_rpc_server_reconnect_timeout_s=20  # how long nodes wait for the first one at the end
srun ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- env RAY_ADDRESS="$address" dvc "$@"
