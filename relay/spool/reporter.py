"""Makes the report on a row that has come to its end, and puts it into the spool as a message of its own.

It goes into the slot of its message, under an id made from the copy: made again after a crash, it has the same name
there and is not put twice. One that lay there at the start is never made again: it may have left before the outcome
that it is about is told. It leaves by the upstreams of its message. A report has no report (RFC 5321 §6.1): one that
fails is dropped and counted.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from relay.core import dsn
from relay.core.dsnrequest import NO_REPORT_OF_A_REPORT
from relay.spool import metrics
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError
from relay.spool.files import Spooled
from relay.spool.lane import UpstreamLimits
from relay.spool.layout import State
from relay.spool.queued import QueuedMessage
from relay.spool.reportrate import ReportRate
from tracker.contract.events import Accepted, CopyFacts, MessageFacts
from tracker.contract.ids import COPY_SUFFIX_BYTES, CopyId, MessageId

_LOG: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """`hostname` is ours; `sender` the reverse-path of reports, empty for the null sender; `per_hour` by address.

    `enabled`: false where authors get no reports at all. `dkim` names the table that signs them, if one does.
    """

    hostname: str
    enabled: bool = True
    sender: str = ""
    per_hour: int = 100
    dkim: str | None = None


class Reporter:
    """One for a process."""

    def __init__(self, options: ReportOptions, limits_of: Callable[[str], UpstreamLimits]) -> None:
        """Take the settings, and who knows an upstream by its name."""
        self._options = options
        self._limits_of = limits_of
        self._rate = ReportRate(options.per_hour)
        self._found: set[MessageId] = set()

    def found(self, report: MessageId) -> None:
        """Note that a report was in the spool at the start."""
        self._found.add(report)

    def renew(self, options: ReportOptions) -> None:
        """Go by other settings from now on."""
        self._options = options
        self._rate.per_hour = options.per_hour

    async def report(self, message: QueuedMessage, index: int) -> SpoolEntry | None:
        """Report on a row in D or F; return the entry of the report, None where none is due.

        Raises OSError: it is to be done again.
        """
        row = message.rows[index]
        failed = row.state is State.FAILED
        if message.is_report:
            if failed:
                metrics.DOUBLE_BOUNCES.inc()
                _LOG.warning("report_dropped", message_ref=str(message.id), reply=str(row.reply or row.text))
            return None
        if not self._options.enabled or row.unreported or not (failed or message.is_success_wanted):
            return None
        if dsn.report_id(message.copy(index)) in self._found:
            return None
        try:
            async with message.opened() as spooled:
                action = dsn.due_action(
                    failed=failed,
                    final=self._limits_of(message.upstream(index)).final,
                    upstream_reports=row.upstream_reports,
                    request=spooled.entry.dsn.of(index),
                )
                sender = spooled.entry.reverse_path
                if action is None or not dsn.is_due(reverse_path=sender, header_of=spooled.message):
                    return None
                facts = self._facts(message, index, spooled, action)
                report = dsn.make(facts, spooled.message)
        except (SpoolDamagedError, FileNotFoundError, ValueError) as error:
            _LOG.error("report_not_made", message_ref=str(message.id), error=str(error))
            return None
        return await self._put(message, facts, report)

    def _facts(self, message: QueuedMessage, index: int, spooled: Spooled, action: dsn.Action) -> dsn.ReportFacts:
        row, entry = message.rows[index], spooled.entry
        return dsn.ReportFacts(
            hostname=self._options.hostname,
            copy=message.copy(index),
            sender=entry.reverse_path,
            recipient=entry.recipients[index],
            arrived_at=message.accepted_at,
            ended_at=datetime.fromtimestamp(row.changed_ms / 1000, UTC),
            reply=row.reply,
            detail=row.text,
            expired=row.expired,
            action=action,
            upstream_host=self._limits_of(message.upstream(index)).host,
            dsn_sender=self._options.sender,
            message_request=entry.dsn,
            request=entry.dsn.of(index),
        )

    async def _put(self, message: QueuedMessage, facts: dsn.ReportFacts, report: bytes) -> SpoolEntry | None:
        entry = self._entry(facts, message.upstreams, report)
        if message.spool.has(entry.id):  # made before a crash, or before what followed it failed
            return entry
        surplus = self._rate.take(facts.sender, asyncio.get_running_loop().time())
        if surplus:
            metrics.REPORTS_CAPPED.inc()
            if surplus == 1:  # once an hour and address: the log must not become the flood
                _LOG.warning("reports_capped", per_hour=self._options.per_hour, sender=facts.sender)
            return None
        try:
            await message.spool.put(entry, report)
        except OSError:
            self._rate.give_back(facts.sender)
            raise
        metrics.REPORTS.labels(facts.action.value).inc()
        return entry

    def _entry(self, facts: dsn.ReportFacts, upstreams: tuple[str, ...], report: bytes) -> SpoolEntry:
        message = dsn.report_id(facts.copy)
        suffix = hashlib.sha256(message.raw).digest()[:COPY_SUFFIX_BYTES]
        recipient = CopyFacts(copy=CopyId(message, suffix), recipient=facts.sender, opens=False, clicks=False)
        about = MessageFacts(
            message=message,
            accepted_at=facts.ended_at,
            source=self._options.sender,
            source_address="",
            caller="",
            from_domain=facts.hostname,
            configuration_set=None,
            upstream=upstreams[0],
            size_bytes=len(report),
        )
        return SpoolEntry(
            accepted=Accepted(facts=about, copies=(recipient,)),
            reverse_path=self._options.sender,
            recipients=(facts.sender,),
            upstream=upstreams[0],
            fallbacks=upstreams[1:],
            body_8bit=not report.isascii(),
            smtputf8=not facts.sender.isascii(),
            dsn=NO_REPORT_OF_A_REPORT,
            report=True,
            dkim=self._options.dkim,
        )
