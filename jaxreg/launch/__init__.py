"""Running a command elsewhere: Cloud TPU with its whole life cycle, and task files for GKE, Slurm
and SkyPilot.

versions   the one table of accelerator types       gcloud    every argument list, as a pure
function
bundle     what workers get: package, files, scripts  carry   which of the person's files go along
fanout     one command over several slices           tpu      create, wait, set up, run, resume,
fetch, delete taskfiles  the task files of other engines, filled in

Nothing in here imports JAX.
"""
