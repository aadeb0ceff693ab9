#!/bin/bash
# Runs a command on all nodes of a Slurm job: sbatch FILE. Two minutes before its time is over, and when it is preempted, the command
# saves and ends with exit code 75; the job then goes back into the queue and on from there. --workdir must be on a disk that all nodes see.
#
#SBATCH --job-name=@NAME@
#SBATCH --nodes=@NODES@
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=@GPUS@  #if gpus
#SBATCH --time=@TIME@
#SBATCH --partition=@PARTITION@  #if partition
#SBATCH --array=0-@LAST@  #if several
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --output=%x-%j.log  #if single
#SBATCH --output=%x-%A-%a.log  #if several

@BEFORE@
case "${SLURM_ARRAY_TASK_ID:-0}" in
@CASES@
esac

if ((SLURM_NNODES > 1)); then
  export JAXREG_COORDINATOR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):$((20000 + SLURM_JOB_ID % 20000))"
  export JAXREG_NUM_PROCESSES="$SLURM_NNODES"
fi
srun bash -c 'if ((SLURM_NNODES > 1)); then export JAXREG_PROCESS_ID="$SLURM_PROCID"; fi; exec "$@"' launched "${command[@]}"
code=$?
if ((code == 75)); then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
