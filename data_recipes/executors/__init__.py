"""Where work on data runs: in processes of this machine, on Slurm or on Ray."""
