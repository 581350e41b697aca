"""Keys of DKIM and their records in DNS: what is refused, what is compared, what is to be published."""

import re
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from relay import dkimkeys
from relay.core import dkimrecord
from relay.dkimkeys import DkimKeyError

RSA, _ = dkimkeys.make("rsa-sha256")
ED25519, _ = dkimkeys.make("ed25519-sha256")
P = b64encode(RSA.public).decode()
_WEAK = """\
-----BEGIN PRIVATE KEY-----
MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEA4GfbZcueYBus46cV
Th4mxu/74kkd7TL33gD0n324WGxvS6O2zuVNnjNrDNBNOBUhX1xPu8HyyO9iJiUt
buYbEQIDAQABAkEAhfp76xLew9LCLkkbV0B5Nl0hrcCptWywwEMhyfdtkJxOUUM8
ePuuEWgVWggRiXn6I0w3c2MXqbEL4PVjDBej4QIhAP1hzFCZpFLVddGg5GNrBDnp
3daVQnboYDCU/B7JtQ9zAiEA4rlqcKYMOd/IY8IXfXHq1BxQ0FpnVbB0C2W1g6uP
QmsCIQD25PvEMeGngS37pK3GnfmRQOuTcv8/hDBuRk3g5iTSNwIgHli7CoDvOf/e
Dpw4EK5ixClWF81B75JCthPTC+C2uCkCIQDjNhmU4ClzI5VpVQRkzIPWr5knVVyM
99XbFdh5uEA6AA==
-----END PRIVATE KEY-----
"""


_SHORT = rsa.generate_private_key(public_exponent=65_537, key_size=1024)


def _pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_a_published_key_is_found_right(key: dkimkeys.DkimKey) -> None:
    """Also with white space in it, as a provider's form may leave behind, and tags that say nothing new."""
    record = key.record()

    assert dkimrecord.fault_of([record], key.algorithm, key.public) is None
    spaced = record.replace("p=", "t=s; h=sha1:sha256; s=email; n=note; p = ")[:-5] + "\r\n " + record[-5:] + " ; "
    assert dkimrecord.fault_of([spaced], key.algorithm, key.public) is None


@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        ([], "no TXT record"),
        ([RSA.record(), RSA.record()], "2 TXT records"),
        (["v=spf1 -all"], "none of DKIM"),
        (["k=rsa; v=DKIM1; p=x"], "none of DKIM"),
        (["v=DKIM1; p=a; p=b"], "none of DKIM"),
        (["hello"], "none of DKIM"),
        (["v=DKIM1; k=rsa"], "no p="),
        (["v=DKIM1; k=rsa; p="], "revoked"),
        ([ED25519.record()], "k=ed25519"),
        (["v=DKIM1; k=rsa; p=A"], "no base64"),
        ([dkimkeys.make("rsa-sha256")[0].record()], "another key"),
        ([f"v=DKIM1; h=sha1; p={P}"], "SHA-256"),
        ([f"v=DKIM1; s=tlsrpt; p={P}"], "not for mail"),
        ([f"v=DKIM1; t=s:y; p={P}"], "t=y"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(texts: list[str], wrong: str) -> None:
    """RFC 6376 §3.6.1: each of these makes a verifier take signed mail for unsigned mail."""
    assert wrong in str(dkimrecord.fault_of(texts, "rsa-sha256", RSA.public))


@given(texts=st.lists(st.text(st.sampled_from("v=DKIM1;kprsa "), max_size=40) | st.text(max_size=40), max_size=2))
def test_a_hostile_record_is_never_right(texts: list[str]) -> None:
    """Whatever DNS says: a sentence, no exception."""
    assert dkimrecord.fault_of(texts, "rsa-sha256", RSA.public) is not None


def test_the_line_for_dns_has_strings_that_dns_can_hold() -> None:
    """RFC 1035 §3.3.14: 255 octets each; joined they are the record."""
    line = dkimrecord.zone_line("mw1._domainkey.shop.example", RSA.record())

    strings = re.findall(r'"([^"]*)"', line)
    assert line.startswith('mw1._domainkey.shop.example. IN TXT "v=DKIM1; k=rsa; p=')
    assert "".join(strings) == RSA.record()
    assert [len(string) <= 255 for string in strings] == [True, True]


def test_a_key_of_openssl_is_read() -> None:
    """PKCS #8 and the older form of `openssl genrsa -traditional`."""
    keys = [dkimkeys.load(_pem(_SHORT, form)) for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)]

    assert [(key.algorithm, key.rsa_bits) for key in keys] == [("rsa-sha256", 1024)] * 2
    assert "PRIVATE" not in repr(keys)


@pytest.mark.parametrize(
    ("pem", "wrong"),
    [
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no private key"),
        (_pem(ec.generate_private_key(ec.SECP256R1())), "a kind that DKIM does not have"),
        (_pem(_SHORT, encryption=BestAvailableEncryption(b"x")), "encrypted"),
    ],
    ids=["damaged", "elliptic", "encrypted"],
)
def test_what_is_no_key_of_dkim_is_refused(pem: str, wrong: str) -> None:
    """With what to do, and nothing of the key in the words."""
    with pytest.raises(DkimKeyError) as caught:
        dkimkeys.load(pem)

    assert wrong in caught.value.wrong
    assert "openssl" in caught.value.remedy


def test_an_rsa_key_of_a_length_that_verifiers_do_not_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8301 §3.2: from 1,024 to 4,096 bits."""
    with pytest.raises(DkimKeyError, match="512 bits is taken for no signature"):
        dkimkeys.load(_WEAK)

    monkeypatch.setattr(dkimkeys, "MOST_RSA_BITS", 1023)  # one of 5,120 bits takes seconds to make
    with pytest.raises(DkimKeyError, match="1024 bits is more than verifiers must read"):
        dkimkeys.load(_pem(_SHORT))
