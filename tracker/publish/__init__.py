"""Events on their way out: each destination reads the log from a place of its own."""
