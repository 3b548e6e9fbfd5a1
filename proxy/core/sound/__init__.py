"""How long a recording is, from its bytes as they pass: one module for each kind of file."""
