"""The proof that a host reaches our tracker."""

import pytest

from tracker.core import challenge


def test_the_answer_is_hmac_sha256_of_the_nonce() -> None:
    """RFC 2104 by hand, so that another program can check a host as we do."""
    import hashlib

    key, nonce = bytes(range(32)), "abcDEF123-_abcDEF"
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key.ljust(64, b"\0")) + nonce.encode()).digest()
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key.ljust(64, b"\0")) + inner).hexdigest()

    assert challenge.answer(key, nonce) == outer


@pytest.mark.parametrize("nonce", ["", "a" * 15, "a" * 129, "a" * 15 + "+", "a" * 16 + "\n", "é" * 20, "a b" * 9])
def test_another_shape_is_no_nonce(nonce: str) -> None:
    """What is signed for strangers has one narrow shape."""
    assert challenge.answer(bytes(32), nonce) is None
