"""Complete, runnable programs that call the relay, in every language people ask for."""
