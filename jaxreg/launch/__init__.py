"""Running a command elsewhere: Cloud TPU, and task files for GKE, Slurm, SkyPilot.

    accelerators   the table of accelerator types
    package        the archive for workers: package, files, scripts
    carried_files  which of the person's files go to the workers
    fanout         one command over several slices
    task_files     the task files of other engines, filled in
    tpu            create, wait, set up, run, resume, fetch, delete; gcloud has every argument list

Nothing in here imports JAX.
"""
