"""The console: what an operator sees of a running process. Every value it shows may be hostile."""
