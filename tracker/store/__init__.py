"""The storage: what has happened to messages, one SQLite file behind one thread.

Neither mail nor hits wait for it: whatever fails here is late, never lost.
"""
