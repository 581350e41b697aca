"""The errors of the spool; each is the sentence that an operator reads. A disk that fails is an OSError."""


class SpoolError(Exception):
    """Base of every error that the spool raises on purpose."""


class SpoolVersionError(SpoolError):
    """A spool file was written by a later version: start that version, or let it deliver what waits first."""


class SpoolDamagedError(SpoolError):
    """A spool file is empty, cut, foreign or has a wrong checksum; it goes to the folder `quarantine`."""
