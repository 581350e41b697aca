"""Questions to DNS that a command asks: TXT records, of the system's resolver or of one server."""

import dns.exception
import dns.resolver

from tracker.runtime.units import ListenAddress

_TIMEOUT_S = 10.0


class DnsUnavailableError(Exception):
    """DNS gave no answer, neither that there is a record nor that there is none; the message says what happened."""


def texts_at(name: str, resolver: str) -> list[str]:
    """Return the TXT records of a name, the strings of each joined; `resolver` is `"system"` or `"127.0.0.1:53"`.

    Raises:
        DnsUnavailableError: the resolver is silent, fails, or there is none.
    """
    try:
        asked = dns.resolver.Resolver(configure=resolver == "system")
        if resolver != "system":
            address = ListenAddress.parse(resolver)
            asked.nameservers, asked.port = [address.host], address.port
        answer = asked.resolve(f"{name}.", "TXT", lifetime=_TIMEOUT_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise DnsUnavailableError(str(error)) from error
    return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
