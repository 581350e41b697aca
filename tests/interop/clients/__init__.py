"""Clients before Mailwake: one file a program. Each sends one message as it is told, or says that it cannot."""
