"""`[relay.tls]`: the certificate of the SMTP server, for STARTTLS and for `smtps://` addresses of `relay.listen`."""

from typing import Final, Self

from pydantic import Field, model_validator

from tracker.runtime.configtypes import FilePath, Kind, Section
from tracker.runtime.units import UnfitError


class RelayTlsSection(Section):
    """`[relay.tls]`: TLS of the SMTP server; STARTTLS is offered when it is set."""

    certificate: FilePath | None = Field(
        None, examples=['"cert.pem"'], description="The certificate and its chain, PEM."
    )
    key: FilePath | None = Field(
        None, examples=['"key.pem"'], description="Its private key, PEM, readable to its owner alone."
    )
    require: bool = Field(default=False, description="true: neither AUTH nor MAIL before STARTTLS.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise UnfitError("a certificate and its key belong together", "write both or neither")
        if self.require and self.certificate is None:
            raise UnfitError("require wants TLS, and there is no certificate", "write certificate and key")
        return self


RELAY_TLS: Final = Kind(name="relay.tls", model=RelayTlsSection)
