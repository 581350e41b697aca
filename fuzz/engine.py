"""One target under Atheris: `python -m fuzz.engine TARGET [OPTIONS OF LIBFUZZER] CORPUS...`.

A process of its own for each target, since the engine ends the process that it runs in.
"""

import signal
import sys

import atheris


def main() -> None:
    """Instrument what is searched, then search until the engine ends the process."""
    name, *arguments = sys.argv[1:]
    # The engine's timer may ring once more when its handler is gone already, which would look like a finding.
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    with atheris.instrument_imports(include=["relay.core", "tracker.contract", "tracker.core"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is instrumented
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].run)
    atheris.Fuzz()


main()
