"""Mailwake between real mail programs: real clients before it, real servers behind it. `make interop` runs it.

Not collected by pytest: it takes minutes, wants root for the servers' namespaces, and writes what it saw into
`docs/reference/interop.md` and `bench/results/interop.json`. What is quick and needs no root is in `make test`:
`tests/acceptance/test_real_clients.py`.
"""
