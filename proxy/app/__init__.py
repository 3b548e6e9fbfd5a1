"""Settings, wiring, processes and the command line: the only layer that knows every class."""
