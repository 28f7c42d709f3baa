"""Where Hydra finds the launchers; `framework.launcher` does the work."""
