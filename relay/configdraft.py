"""The tables of a configuration file as they are read, before they are checked against each other."""

from typing import Final

from relay.config import credential, dkim, listening, spool, tls, upstream
from tracker.config import account, destination, host, node
from tracker.config.tls import TRACKER_TLS
from tracker.runtime.configfile import Reader
from tracker.runtime.configtypes import Kind, Section

PLANNED_SECTIONS: Final = frozenset({"tracking_domain"})
TABLES: Final[tuple[Kind[Section], ...]] = (
    listening.RELAY,
    tls.RELAY_TLS,
    credential.CREDENTIAL,
    upstream.UPSTREAM,
    spool.SPOOL,
    dkim.DKIM,
    node.JOURNAL,
    host.TRACKER,
    TRACKER_TLS,
    host.CONSOLE,
    host.METRICS,
    node.STORAGE,
    node.KEYS,
    account.TRACKING,
    account.CONFIGURATION_SET,
    account.SENDER_DOMAIN,
    destination.EVENT_DESTINATION,
    node.VERIFICATION,
    node.LOG,
)


class Draft:
    """The tables that can be used so far; None stands for one that is wrong, which was said already."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.relay = reader.section(listening.RELAY)
        self.relay_tls = reader.section(tls.RELAY_TLS)
        self.credentials = reader.table(credential.CREDENTIAL)
        self.upstreams = reader.table(upstream.UPSTREAM)
        self.spool = reader.section(spool.SPOOL)
        self.dkims = reader.table(dkim.DKIM)
        self.journal = reader.section(node.JOURNAL)
        self.tracker = reader.section(host.TRACKER)
        self.tracker_tls = reader.section(TRACKER_TLS)
        self.console = reader.section(host.CONSOLE)
        self.metrics = reader.section(host.METRICS)
        self.storage = reader.section(node.STORAGE)
        self.keys = reader.section(node.KEYS)
        self.tracking = reader.section(account.TRACKING)
        self.sets = reader.table(account.CONFIGURATION_SET)
        self.sender_domains = reader.table(account.SENDER_DOMAIN)
        self.destinations = reader.table(destination.EVENT_DESTINATION)
        self.verification = reader.section(node.VERIFICATION)
        self.log = reader.section(node.LOG)
