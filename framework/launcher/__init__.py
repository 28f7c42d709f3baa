"""Sweeps as jobs of a scheduler or processes of this machine; the same command again resumes what has not finished."""
