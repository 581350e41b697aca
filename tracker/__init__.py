"""The tracking host and all that comes after a hit: journal, ingest, storage, publishing. Knows nothing of the relay."""
