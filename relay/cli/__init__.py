"""The `mailwake` command. Modules import only click at their top; each command loads what it needs when it runs."""
