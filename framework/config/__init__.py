"""The configuration: schema, parsing, durations and building of `_target_` blocks."""
