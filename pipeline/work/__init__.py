"""A list of tasks, run in this process, on Dask workers of this machine, or under Slurm."""
