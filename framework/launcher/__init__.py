"""Sweeps as jobs of a scheduler, or of this machine, that go on where an earlier start of the same sweep has ended."""
