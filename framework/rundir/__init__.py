"""The content of a run directory; only this package reads, checks and writes it."""
