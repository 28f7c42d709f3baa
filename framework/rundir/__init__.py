"""What a run directory holds: read, checked and written here and nowhere else."""
