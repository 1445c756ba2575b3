"""The command line: the only place that prints, draws progress, reads the environment and exits."""
