"""The errors of the spool; each is the sentence that an operator reads. A disk that fails is an OSError."""


class SpoolError(Exception):
    """Base of every error that the spool raises on purpose."""


class SpoolVersionError(SpoolError):
    """A spool file was written by a later version: start that version, or let it deliver what waits first."""


class SpoolRestoredError(SpoolError):
    """A spool with mail in it is an older copy, or another relay's: what was sent since would be sent again."""

    remedy = (
        "put the newer folder back; or look with `mailwake queue list`, remove what must not be sent again, and run "
        "`mailwake serve --force` once"
    )


class SpoolDamagedError(SpoolError):
    """A spool file is empty, cut, foreign or has a wrong checksum; it goes to the folder `quarantine`."""
