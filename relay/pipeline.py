"""THE ORDER OF STEPS for one message; the file to read first.

    the client's final dot
      1  prepare   line ends, loop check, control headers, policy, Received, plan: pure (relay/core/prepare.py)
      2  record    ids drawn, the facts of every later event gathered
      3  put       one spool file, fsynced, renamed, its folder fsynced        failure: 451, nothing is kept
                   too late for the client (accept_deadline): 451, and the message is taken out again
      4  queue     the runner is told; it journals the acceptance, makes the copies and sends them
      5  verify    a share of rewritten mail is offered to the witness, who looks at it later (relay/verification)
      6  250       only now; or, where a verdict is waited for (inline_wait), the upstream's refusal of all recipients

    the runner, once for each copy and attempt
      7  copy_of   tokens sealed, slices put together (relay/core/copies.py); the fields that the upstream wants
                   (relay/core/outgoing.py); encoded again where it takes 7 bits alone (relay/core/downgrade.py); then,
                   over the bytes that leave and nothing after it, the signature (relay/core/dkim.py)

Does not talk SMTP, does not touch a disk, does not know an upstream or the witness: all are handed in.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from relay.core import dkim, downgrade, outgoing, reply, senders
from relay.core import plan as plans
from relay.core.attempt import OFF_LOOP_BYTES, CopyForm, UpstreamReply
from relay.core.consent import NOBODY_SPOKE, Consents
from relay.core.copies import CopyMint, copy_of, marked
from relay.core.dkim import Signer
from relay.core.facts import facts_of, rejected_of
from relay.core.outgoing import NO_FIELDS, OutgoingFields
from relay.core.plan import RewriteOptions, RewritePlan
from relay.core.policy import Track, Untouched
from relay.core.prepare import Prepared, Site, prepare
from relay.core.reply import Reply
from relay.core.submission import Submission
from relay.spool.entry import SpoolEntry
from relay.testimony import Question, question_of
from tracker.contract.events import CopyFacts, Rejected
from tracker.contract.ids import COPY_SUFFIX_BYTES, RANDOM_BYTES_OF_MESSAGE_ID, CopyId, MessageId
from tracker.contract.ports import Clock, Entropy
from tracker.contract.settings import Settings
from tracker.contract.token import TokenKeys, day_of
from tracker.runtime import turns

CACHED_PLAN_BYTES: Final = 8 * 1024 * 1024
"""Messages whose plans are kept from acceptance to the first attempts; others are planned again from the spool."""

Put = Callable[[SpoolEntry, bytes], Awaitable[None]]
Verify = Callable[[MessageId, int, Callable[[], Question]], None]
"""Takes a message that was rewritten, its size in bytes, and how to make the question about it; returns at once."""


async def _tell_nobody(_record: Rejected) -> None:
    """Take a refusal where no events are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the pipeline asks of the world.

    `put` returns when the message is safe, else raises OSError; `take_out` undoes it. `verdict` is None, or queues as
    `queue` does and returns the upstream's refusal of all recipients, if it comes in time. `signers` are those of the
    tables `[dkim.NAME]`. `verify` is None where no mail is verified. `fields` are those that an upstream wants on what
    leaves. `reject` is told of messages that their login may not send. `consents` are what recipients decided.
    """

    settings: Callable[[], Settings]
    keys: Callable[[], TokenKeys]
    put: Put
    take_out: Callable[[MessageId], Awaitable[None]]
    queue: Callable[[SpoolEntry], None]
    clock: Clock
    entropy: Entropy
    reject: Callable[[Rejected], Awaitable[None]] = _tell_nobody
    signers: Callable[[], Mapping[str, Signer]] = dict
    consents: Callable[[], Consents] = lambda: NOBODY_SPOKE
    verify: Verify | None = None
    fields: Callable[[str], OutgoingFields] = lambda _: NO_FIELDS
    verdict: Callable[[SpoolEntry], Awaitable[UpstreamReply | None]] | None = None
    accept_deadline_s: float = 60.0


class Pipeline:
    """Takes submissions, gives replies; gives copies of what was taken."""

    def __init__(self, site: Site, ports: Ports) -> None:
        """Wire it; nothing is opened or started."""
        self._site = site
        self._ports = ports
        self._plans = _PlanCache(CACHED_PLAN_BYTES)
        self._late: set[asyncio.Task[None]] = set()

    async def accept(self, submission: Submission) -> Reply:
        """Take responsibility for a message, or refuse it.

        Raises:
            OSError: the message could not be made safe; nothing is kept and the client is told to try again.
        """
        settings = self._ports.settings()
        now = self._ports.clock()
        waited_s = max(0.0, (now - submission.received_at).total_seconds())
        deadline_s = asyncio.get_running_loop().time() + self._ports.accept_deadline_s - waited_s
        entropy = self._ports.entropy
        message_id = MessageId.make(unix_ms=int(now.timestamp() * 1000), entropy=entropy(RANDOM_BYTES_OF_MESSAGE_ID))
        prepared = await self._prepare(submission, settings, message_id)
        copies = self._copy_ids(message_id, len(submission.envelope.recipients))
        if isinstance(prepared, Reply):
            if senders.is_refusal(prepared):
                await self._ports.reject(
                    rejected_of(submission, prepared, settings, message_id=message_id, copies=copies, at=now)
                )
            return prepared
        consents = self._ports.consents()
        accepted = facts_of(submission, prepared, message_id=message_id, copies=copies, at=now, consents=consents)
        entry = SpoolEntry(
            accepted=accepted,
            reverse_path=accepted.facts.source,
            recipients=tuple(map(str, submission.envelope.recipients)),
            upstream=accepted.facts.upstream,
            fallbacks=_fallbacks(prepared.decision),
            rewrite=prepared.options,
            base_url=settings.base_url,
            key_id=self._ports.keys().minting(now),
            body_8bit=prepared.is_8bit,
            smtputf8=submission.envelope.smtputf8 and not prepared.original.is_ascii,
            dsn=submission.envelope.dsn,
            dkim=prepared.decision.configuration_set.dkim if isinstance(prepared.decision, Track) else None,
        )
        if not await self._put_in_time(entry, prepared.message, deadline_s):
            return reply.TOO_LATE
        if prepared.plan is not None and prepared.options is not None:
            self._plans.keep(message_id, prepared.options, prepared.plan)
        verdict = None
        if self._ports.verdict is None:
            self._ports.queue(entry)
        else:
            verdict = await self._ports.verdict(entry)
        if verdict is not None:
            return reply.passed_on(verdict.code, verdict.text)
        plan, options = prepared.plan, prepared.options
        if self._ports.verify is not None and plan is not None and options is not None and plan.parts:
            self._ports.verify(message_id, len(prepared.message), partial(self._question, entry, options, plan))
        return reply.queued(str(message_id))

    async def _put_in_time(self, entry: SpoolEntry, message: bytes, deadline_s: float) -> bool:
        """Make a message safe; False where the client would get its answer too late, and the message is not kept.

        A client that has given up sends again: a message that stayed would be there twice. Nothing of it has been
        handed to anybody yet. One whose put hangs is taken out when the disk answers.
        """
        now_s = asyncio.get_running_loop().time
        if now_s() >= deadline_s:
            return False
        putting = asyncio.ensure_future(self._ports.put(entry, message))
        await asyncio.wait({putting}, timeout=deadline_s - now_s())
        if putting.done():
            putting.result()
            return True
        task = asyncio.create_task(self._take_out(putting, entry))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return False

    async def settled(self) -> None:
        """Wait until messages that came too late are taken out again."""
        while self._late:
            await asyncio.wait(self._late)

    async def _take_out(self, putting: "asyncio.Future[None]", entry: SpoolEntry) -> None:
        with suppress(OSError):  # nothing was kept
            await putting
            try:
                await self._ports.take_out(entry.id)
            except OSError:
                self._ports.queue(entry)  # it stays, so it is delivered: twice is better than never

    def copy_of(
        self, entry: SpoolEntry, message: bytes, row: int, form: CopyForm
    ) -> Sequence[bytes | memoryview] | None:
        """Return what recipient number `row` of a spooled message gets: the same bytes at every call with this form.

        None: the message has no such form. May be called in any thread.
        """
        if form.original and entry.rewrite is None:
            return None
        copy = self._rendered(entry, message, row, original=form.original)
        fields = self._ports.fields(form.upstream)
        copy = outgoing.with_fields(copy, fields.of(has_set=entry.rewrite is not None))
        if form.seven_bit:
            made = downgrade.to_seven_bit(b"".join(copy))
            if made is None:
                return None
            copy = [made]
        signer = self._signer(entry)
        if signer is None:
            return copy
        at = entry.accepted.facts.accepted_at
        field = dkim.signature(copy, signer, at=at, replaced=fields.replaced)
        return copy if field is None else [field, *copy]

    def _rendered(self, entry: SpoolEntry, message: bytes, row: int, *, original: bool) -> Sequence[bytes | memoryview]:
        if entry.rewrite is None:
            return [message]
        copy = entry.accepted.copies[row]
        if original:
            return marked(message, copy.copy)
        options = self._narrowed(entry.rewrite, entry, copy)
        plan = self._plans.get(entry.id, options)
        if plan is None:
            plan = plans.make(message, options)
            self._plans.keep(entry.id, options, plan)
        return copy_of(plan, self._mint(entry, copy, options))

    def _signer(self, entry: SpoolEntry) -> Signer | None:
        """Return who signs: the table that the message was accepted with, else the one that its set has now.

        None where both are gone: an operator who took the signature away wants mail to leave without it, and mail that
        waited for a key would bounce in the end.
        """
        if entry.dkim is None:
            return None
        signers = self._ports.signers()
        if entry.dkim in signers:
            return signers[entry.dkim]
        chosen = self._ports.settings().sets.get(entry.accepted.facts.configuration_set or "")
        return None if chosen is None or chosen.dkim is None else signers.get(chosen.dkim)

    def _question(self, entry: SpoolEntry, rewrite: RewriteOptions, plan: RewritePlan) -> Question:
        """Make the copy of the first recipient, as it is sent, and say what was promised of it. Runs in a thread."""
        copy = entry.accepted.copies[0]
        options = self._narrowed(rewrite, entry, copy)
        if options != rewrite:
            plan = plans.make(plan.message, options)
        return question_of(plan, self._mint(entry, copy, options))

    def _narrowed(self, options: RewriteOptions, entry: SpoolEntry, copy: CopyFacts) -> RewriteOptions:
        """Return the options of one copy: those of its message, without what was taken away.

        Its recipient's header may have taken tracking away, or the settings and the recipient's own decision, since the
        message was accepted; these may give nothing. A set that has gone says nothing.
        """
        settings = self._ports.settings()
        chosen = settings.sets.get(entry.accepted.facts.configuration_set or "")
        rule = "assume" if chosen is None else chosen.consent
        is_free = settings.enabled and self._ports.consents().objection(copy.recipient, rule) is None
        opens, html, text = (copy.opens, copy.clicks, copy.clicks) if is_free else (False, False, False)
        if chosen is not None:
            opens, html, text = opens and chosen.open_tracking, html and chosen.html_links, text and chosen.text_links
        if opens and html and text:
            return options
        return replace(
            options,
            open_tracking=options.open_tracking and opens,
            html_links=options.html_links and html,
            text_links=options.text_links and text,
        )

    def _mint(self, entry: SpoolEntry, copy: CopyFacts, options: RewriteOptions) -> CopyMint:
        return CopyMint(
            keys=self._ports.keys(),
            key_id=entry.key_id,
            base_url=entry.base_url,
            copy=copy.copy,
            day=day_of(entry.accepted.facts.accepted_at),
            configuration_set=options.configuration_set,
            from_domain=options.from_domain,
        )

    async def _prepare(self, submission: Submission, settings: Settings, message_id: MessageId) -> Prepared | Reply:
        work = partial(prepare, submission, site=self._site, settings=settings, message_id=message_id)
        if len(submission.message) > OFF_LOOP_BYTES:
            with turns.short():
                return await asyncio.to_thread(work)
        return work()

    def _copy_ids(self, message_id: MessageId, count: int) -> tuple[CopyId, ...]:
        """Draw an id for each copy; no two of a message are the same."""
        suffixes: dict[bytes, None] = {}
        while len(suffixes) < count:
            suffixes[self._ports.entropy(COPY_SUFFIX_BYTES)] = None
        return tuple(CopyId(message_id, suffix) for suffix in suffixes)


class _PlanCache:
    """Plans by message and options, the oldest dropped when their messages pass a number of bytes together.

    Copies of large messages are made in threads, so that it is used in several.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._plans: OrderedDict[tuple[MessageId, RewriteOptions], RewritePlan] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, message: MessageId, options: RewriteOptions) -> RewritePlan | None:
        return self._plans.get((message, options))

    def keep(self, message: MessageId, options: RewriteOptions, plan: RewritePlan) -> None:
        with self._lock:
            if (message, options) in self._plans or len(plan.message) > self._limit_bytes:
                return
            self._plans[message, options] = plan
            self._bytes += len(plan.message)
            while self._bytes > self._limit_bytes:
                _, dropped = self._plans.popitem(last=False)
                self._bytes -= len(dropped.message)


def _fallbacks(decision: Track | Untouched) -> tuple[str, ...]:
    return decision.configuration_set.fallbacks if isinstance(decision, Track) else ()
