"""The tracking host and all behind a hit: journal, ingest, storage, publishing. Knows nothing of the relay."""
