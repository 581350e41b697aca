"""The keys of DKIM: read from PEM, made anew, and as the record in DNS that verifiers ask for.

Owns what is a usable key. Does not know where a key is kept (`relay/config/dkim.py`), and what is signed with it
(`relay/core/dkim.py`).

Standards: RFC 6376 §3.6.1 (the record); RFC 8301 §3.2 (RSA: signers from 1,024 bits, better 2,048; verifiers up to
4,096); RFC 8463 §3, §4 (Ed25519); RFC 5958, RFC 8017 (PEM of PKCS #8 and PKCS #1).
"""

from base64 import b64encode
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.core.dkim import Algorithm, Signer

LEAST_RSA_BITS: Final = 1024
"""Below it verifiers take a signature for none (RFC 8301 §3.2)."""
GOOD_RSA_BITS: Final = 2048
MOST_RSA_BITS: Final = 4096
"""Above it verifiers need not be able to read it (RFC 8301 §3.2)."""

_EXPONENT: Final = 65_537


class DkimKeyError(ValueError):
    """A key cannot be used; `wrong` says why and `remedy` what to do. Neither has anything of the key."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}; {remedy}")
        self.wrong = wrong
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A private key that can sign; it has no way to be printed."""

    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"DkimKey({self.algorithm})"

    @property
    def algorithm(self) -> Algorithm:
        """What `a=` of its signatures says."""
        return "rsa-sha256" if isinstance(self.private, rsa.RSAPrivateKey) else "ed25519-sha256"

    @property
    def rsa_bits(self) -> int | None:
        """The length of an RSA key."""
        return self.private.key_size if isinstance(self.private, rsa.RSAPrivateKey) else None

    @property
    def public(self) -> bytes:
        """What `p=` of the record holds, decoded: SubjectPublicKeyInfo of RSA, the bare 32 bytes of Ed25519."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return self.private.public_key().public_bytes_raw()

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest; the same digest gives the same signature."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        return self.private.sign(digest)

    def signer(self, domain: str, selector: str) -> Signer:
        """Return who signs with this key for a domain."""
        return Signer(domain=domain, selector=selector, algorithm=self.algorithm, sign_digest=self.sign_digest)

    def record(self) -> str:
        """Return the text of the record in DNS: `v=DKIM1; k=ed25519; p=…`."""
        return f"v=DKIM1; k={self.algorithm.partition('-')[0]}; p={b64encode(self.public).decode()}"


def load(pem: str) -> DkimKey:
    """Read a private key. DkimKeyError: it is none, is encrypted, or is too weak to be believed."""
    again = "make one with `openssl genrsa -out dkim.pem 2048`"
    try:
        private = load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:  # so it says that a password is wanted
        remedy = "write it without a passphrase: `openssl pkey -in OLD -out dkim.pem`"
        raise DkimKeyError("the key is encrypted", remedy) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DkimKeyError("it is no private key in PEM", again) from error
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return DkimKey(private)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise DkimKeyError("the key is of a kind that DKIM does not have", f"take RSA or Ed25519: {again}")
    if private.key_size < LEAST_RSA_BITS:
        raise DkimKeyError(f"an RSA key of {private.key_size} bits is taken for no signature", again)
    if private.key_size > MOST_RSA_BITS:
        raise DkimKeyError(f"an RSA key of {private.key_size} bits is more than verifiers must read", again)
    return DkimKey(private)


def make(algorithm: Algorithm) -> tuple[DkimKey, str]:
    """Make a key, and its PEM (PKCS #8): RSA of 2,048 bits, which every verifier reads, or Ed25519."""
    private = (
        rsa.generate_private_key(public_exponent=_EXPONENT, key_size=GOOD_RSA_BITS)
        if algorithm == "rsa-sha256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return DkimKey(private), pem.decode("ascii")
