"""Running a command elsewhere: Cloud TPU, whole life cycle; task files for GKE, Slurm, SkyPilot.

    accelerators   the one table of accelerator types
    package        what workers get: package, files, scripts
    carried_files  which of the person's files go along
    fanout         one command over several slices
    task_files     the task files of other engines, filled in
    tpu            create, wait, set up, run, resume, fetch, delete; gcloud has every argument list

Nothing in here imports JAX.
"""
