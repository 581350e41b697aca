"""How one version's tables become the next one's; run by `database.py` whenever a storage is opened for writing."""
