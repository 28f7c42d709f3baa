"""Everything after training: samples, diagnostics and the report."""
