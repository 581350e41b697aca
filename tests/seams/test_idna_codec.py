"""Seam S19: Python's own IDNA codec is that of 2003, and reads some names as another owner's."""

from tracker.contract.address import normalize_domain


def test_the_codec_of_the_standard_library_names_another_domain() -> None:
    """So `tracker.contract.address` takes the package idna, with UTS 46."""
    assert "faß.de".encode("idna") == b"fass.de"
    assert normalize_domain("faß.de") == "xn--fa-hia.de"
