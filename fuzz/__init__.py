"""Fuzzing: coverage-guided search for input that breaks a law of `tests.laws`.

`make fuzz` runs every target; CONTRIBUTING.md and docs/howto/fuzz.md say how. Nothing here is part of the package that
is installed, and only `fuzz.engine` needs the engine, Atheris.
"""
