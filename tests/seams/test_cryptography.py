"""Seams of cryptography and of other DKIM signers, which the signer in `relay/core/dkim.py` is built on."""

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils


def test_s20_a_signature_of_a_digest_is_that_of_the_bytes_and_always_the_same() -> None:
    """Both kinds of key are deterministic (RFC 8017 §8.2, RFC 8032 §5.1.6): a retry is the same mail.

    RSA signs a digest that was made elsewhere (dkimpy hashes and signs in pure Python, and reads the clock itself).
    """
    data, digest = b"a header", hashlib.sha256(b"a header").digest()
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    of_digest = [key.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())) for _ in range(2)]
    assert of_digest == [key.sign(data, padding.PKCS1v15(), hashes.SHA256())] * 2

    other = ed25519.Ed25519PrivateKey.generate()
    assert other.sign(digest) == other.sign(digest)
    assert len(other.sign(digest)) == 64
