"""The tables of a configuration file as they are read, before they are checked against each other."""

from typing import Final

from relay.config import credential, dkim, listening, spool, tls, upstream
from tracker import config as tracker_config
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
    tracker_config.JOURNAL,
    tracker_config.TRACKER,
    tracker_config.CONSOLE,
    tracker_config.METRICS,
    tracker_config.STORAGE,
    tracker_config.KEYS,
    tracker_config.TRACKING,
    tracker_config.CONFIGURATION_SET,
    tracker_config.SENDER_DOMAIN,
    tracker_config.EVENT_DESTINATION,
    tracker_config.VERIFICATION,
    tracker_config.LOG,
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
        self.journal = reader.section(tracker_config.JOURNAL)
        self.tracker = reader.section(tracker_config.TRACKER)
        self.console = reader.section(tracker_config.CONSOLE)
        self.metrics = reader.section(tracker_config.METRICS)
        self.storage = reader.section(tracker_config.STORAGE)
        self.keys = reader.section(tracker_config.KEYS)
        self.tracking = reader.section(tracker_config.TRACKING)
        self.sets = reader.table(tracker_config.CONFIGURATION_SET)
        self.sender_domains = reader.table(tracker_config.SENDER_DOMAIN)
        self.destinations = reader.table(tracker_config.EVENT_DESTINATION)
        self.verification = reader.section(tracker_config.VERIFICATION)
        self.log = reader.section(tracker_config.LOG)
