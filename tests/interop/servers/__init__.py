"""Servers behind Mailwake: one file a program. Each says where it listens and gives back what it took."""
