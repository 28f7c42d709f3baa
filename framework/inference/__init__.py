"""What follows training: samples, diagnostics and the report."""
