"""`[tracker.tls]`: the certificates of the tracking host, one or several, chosen by the name that a client asks for."""

from dataclasses import replace
from typing import Final, Self

from pydantic import Field, model_validator

from tracker.config.host import TrackerSection
from tracker.runtime.configtypes import FilePath, Kind, Section
from tracker.runtime.units import HTTP, HTTPS, ListenAddress, UnfitError


class CertificateSection(Section):
    """One of several: `{ certificate = "cert.pem", key = "key.pem" }`."""

    certificate: FilePath
    key: FilePath


class TrackerTlsSection(Section):
    """`[tracker.tls]`: TLS of the tracking host; with it every address of `tracker.listen` speaks TLS but `http://`."""

    certificate: FilePath | None = Field(
        None, examples=['"cert.pem"'], description="The certificate and its chain, PEM."
    )
    key: FilePath | None = Field(
        None, examples=['"key.pem"'], description="Its private key, PEM, readable to its owner alone."
    )
    certificates: tuple[CertificateSection, ...] = Field(
        (),
        examples=['[{ certificate = "a.pem", key = "a-key.pem" }, { certificate = "b.pem", key = "b-key.pem" }]'],
        description="Several, by the hosts that they are for; the first for everybody else. In place of the two.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise UnfitError("a certificate and its key belong together", "write both or neither")
        if self.certificate is not None and self.certificates:
            raise UnfitError("certificate and certificates are two ways to say one thing", "keep one of them")
        return self

    @property
    def pairs(self) -> tuple[CertificateSection, ...]:
        """All certificates, the default one first; none where there is no TLS."""
        if self.certificate is not None and self.key is not None:
            return (CertificateSection(certificate=self.certificate, key=self.key),)
        return self.certificates


def tracker_listen(section: TrackerSection, tls: TrackerTlsSection) -> tuple[ListenAddress, ...]:
    """Say of each address of `tracker.listen` whether it speaks TLS: its scheme is `"https://"` then, else empty."""
    return tuple(
        replace(address, scheme=HTTPS if tls.pairs and address.scheme != HTTP else "") for address in section.listen
    )


TRACKER_TLS: Final = Kind(name="tracker.tls", model=TrackerTlsSection)
