"""One worker a destination: reads the log from its cursor, hands over what the destination takes, moves the cursor.

Owns order and promise: at least once, in the order of the log, one write in flight. The cursor moves after the
destination has the records, so a crash between the two repeats them; `mailwake.eventId` is how a reader tells. A
destination that fails is tried again by its schedule, which a restart does not begin anew, and holds up no other.

An event that the destination refuses, or that is at the head when the schedule is at its end, goes to the dead letters,
and the next one is handed over. Dead letters that somebody wants sent again are handed over one by one between the
pages of the log; one that fails again stays where it was.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final, assert_never

import structlog

from tracker.contract import formats
from tracker.contract.ports import Clock
from tracker.contract.settings import EventDestination, Settings
from tracker.publish.metrics import DEAD_LETTERS, DISABLED, FAILURES, PUBLISHED
from tracker.publish.outcome import Dead, Delivered, Disabled, Outcome, TryAgain
from tracker.publish.schedule import Schedule, failed, succeeded, wait
from tracker.publish.writers import Writer
from tracker.store import deadletters
from tracker.store.database import StorageUnavailableError, Store
from tracker.store.deadletters import DeadLetter
from tracker.store.publishing import (
    DestinationState,
    LogEntry,
    Page,
    Progress,
    begin,
    read_on,
    read_state,
    settle,
)

PAGE: Final = 500
POLL_S: Final = 1.0  # another process may ingest; its commits wake nobody here
_TURN_S: Final = 1.0  # then the cursor is moved: what a crash repeats, and how old a page may become
_EXCLUDED: Final = "machine"  # of `exclude_machine`; a privacy proxy loads images of people, and is no machine

_log = structlog.get_logger()


class Worker:
    """Feeds one destination; `run` until cancelled. `settings` may be replaced, the destination not."""

    def __init__(
        self,
        destination: EventDestination,
        make_writer: Callable[[EventDestination], Writer],
        *,
        store: Store,
        settings: Settings,
        clock: Clock,
        uniform: Callable[[], float],
        schedule: Schedule,
        poll_s: float,
    ) -> None:
        """`uniform` gives chance in [0, 1)."""
        self.destination = destination
        self.settings = settings
        self.news = asyncio.Event()
        self._writer = make_writer(destination)
        self._store = store
        self._clock = clock
        self._uniform = uniform
        self._schedule = schedule
        self._poll_s = poll_s
        self._slice = destination.batch if destination.type == "webhook" else PAGE
        self._fingerprint = _fingerprint(destination)
        self._owed: Progress | None = None  # what was handed over, while the storage does not know of it
        self._tidied: date | None = None

    async def run(self) -> None:
        """Feed the destination until cancelled; what is in flight then is handed over again next time."""
        try:
            while True:
                self.news.clear()
                try:
                    pause_s = await self._turn()
                except StorageUnavailableError:  # the store has said so
                    pause_s = self._poll_s
                if pause_s is None:
                    await self._rest()
                else:
                    await asyncio.sleep(pause_s)
        finally:
            with suppress(StorageUnavailableError):
                await self._settle()
            await self._writer.close()

    async def _turn(self) -> float | None:
        """Hand over what there is; return for how long to pause, None: until there is news."""
        await self._settle()
        name, now = self.destination.name, self._clock()
        state = await self._store.read(lambda connection: read_state(connection, name))
        if state is None or state.fingerprint != self._fingerprint:
            await self._begin(state)
            return 0
        DISABLED.labels(name).set(state.disabled_at is not None)
        await self._tidy(now)
        left = wait(state, now)
        if left is None or left:
            return self._poll_s if left is None else min(left.total_seconds(), self._poll_s)
        page, asked = await self._store.read(
            lambda connection: (
                read_on(connection, name, PAGE),
                deadletters.to_replay(connection, name, self._slice),
            )
        )
        if page.entries:
            state = await self._hand_over(page, state)
        for letter in asked:
            if wait(state, now) != timedelta():  # the one before it failed
                break
            state = await self._replay(letter, state)
        return 0 if page.entries or asked else None

    async def _begin(self, state: DestinationState | None) -> None:
        """Enter a destination that is new, or configured otherwise than before: it is tried at once."""
        name = self.destination.name
        last_success = state.last_success if state is not None else None
        new = DestinationState(fingerprint=self._fingerprint, last_success=last_success)
        await self._store.write(lambda connection: begin(connection, name, new))

    # --- the log -----------------------------------------------------------------------------------------------

    async def _hand_over(self, page: Page, state: DestinationState) -> DestinationState:
        """Hand a page over, or as much of it as the destination takes within a turn, and move the cursor."""
        taken = [entry for entry in page.entries if self._takes(entry)]
        ends_at = time.monotonic() + _TURN_S
        sent = 0
        progress = Progress(after=page.after, to=page.last, state=state, at=self._clock())
        while sent < len(taken) and time.monotonic() < ends_at:
            chosen = taken[sent : sent + self._slice]
            outcome = await self._write(chosen)
            delivered = len(chosen) if isinstance(outcome, Delivered) else outcome.delivered
            PUBLISHED.labels(self.destination.name).inc(delivered)
            sent += delivered
            progress = self._progress(page, taken, sent, progress.state, outcome)
            self._owed = progress  # also where we are cancelled now
            if not isinstance(outcome, Delivered):
                break
        self._owed = progress
        await self._settle()
        return progress.state

    def _progress(
        self, page: Page, taken: Sequence[LogEntry], sent: int, state: DestinationState, outcome: Outcome
    ) -> Progress:
        now = self._clock()
        dead: tuple[LogEntry, ...] = ()
        reason, attempts = "", state.attempts + 1
        after = self._after(state, outcome, now)
        match outcome:
            case Dead():
                dead, reason = tuple(taken[sent : sent + outcome.refused]), outcome.reason
            case TryAgain() if after is None:
                dead, reason = tuple(taken[sent : sent + 1]), f"given up after {attempts} tries: {outcome.reason}"
            case _:
                pass
        if after is None:  # the next event is tried at once, with a schedule of its own
            after = replace(state, attempts=0, next_try=None)
        if dead:
            self._tell_dead(dead, reason)
        sent += len(dead)
        to = page.last if sent == len(taken) else taken[sent - 1].seq if sent else page.after
        return Progress(after=page.after, to=to, state=after, at=now, dead=dead, reason=reason, attempts=attempts)

    async def _settle(self) -> None:
        """Write down what was handed over; while the storage is locked it is not handed over again."""
        owed, name = self._owed, self.destination.name
        if owed is not None:
            await self._store.write(lambda connection: settle(connection, name, owed))
            self._owed = None

    def _takes(self, entry: LogEntry) -> bool:
        wanted = self.destination
        if entry.type not in wanted.events or not formats.has_event(wanted.format, entry.type):
            return False
        if wanted.exclude_machine and entry.agent_class == _EXCLUDED:
            return False
        return any(one.name == wanted.name for one in self.settings.destinations_of(entry.configuration_set))

    # --- dead letters ------------------------------------------------------------------------------------------

    async def _replay(self, letter: DeadLetter, state: DestinationState) -> DestinationState:
        """Hand a dead letter over once more."""
        name, now = self.destination.name, self._clock()
        outcome: Outcome = Delivered()
        if formats.has_event(self.destination.format, letter.entry.type):
            outcome = await self._write([letter.entry])
        # The letter had its one try: whether it was the last of a schedule is a question of the log's events.
        after = self._after(state, outcome, now) or replace(state, attempts=0, next_try=None)
        refused = None if isinstance(outcome, Delivered) else outcome.reason
        if refused is None:
            PUBLISHED.labels(name).inc()
        await self._store.write(lambda connection: deadletters.settle(connection, name, letter, after, refused))
        return after

    def _tell_dead(self, dead: Sequence[LogEntry], reason: str) -> None:
        name = self.destination.name
        DEAD_LETTERS.labels(name).inc(len(dead))
        _log.warning("events_dead", destination=name, events=len(dead), first=dead[0].event_id, error=reason)

    # --- the destination ---------------------------------------------------------------------------------------

    async def _write(self, entries: Sequence[LogEntry]) -> Outcome:
        """Hand entries over in the destination's format. Total: a fault of ours is a failure of its destination."""
        wanted, now = self.destination, self._clock()
        try:
            shaped = [
                replace(
                    entry,
                    body=formats.shape(
                        wanted.format,
                        entry.body,
                        event_id=entry.event_id,
                        kind=entry.type,
                        destination=wanted.name,
                        now=now,
                    ),
                )
                for entry in entries
            ]
            return await self._writer.write(shaped, now)
        except Exception:  # noqa: BLE001 - a bug in one writer must not end publishing for all
            _log.exception("destination_broken", destination=wanted.name)
            return TryAgain(reason="a fault of ours: the log has it")

    def _after(self, state: DestinationState, outcome: Outcome, now: datetime) -> DestinationState | None:
        """Return the state that an outcome makes, and tell what changed; None: the schedule is at its end."""
        name = self.destination.name
        match outcome:
            case Delivered() | Dead():
                if state.since is not None:
                    _log.info("destination_recovered", destination=name, failures=state.attempts)
                return succeeded(state, now)
            case Disabled():
                _log.error("destination_disabled", destination=name, error=outcome.reason)
                DISABLED.labels(name).set(1)
                return replace(state, disabled_at=now, last_error=outcome.reason)
            case TryAgain():
                FAILURES.labels(name).inc()
                if state.since is None:
                    _log.warning("destination_failed", destination=name, error=outcome.reason)
                after = failed(state, outcome, self._schedule, now=now, entropy=self._uniform())
                return after and (replace(after, last_success=now, since=now) if outcome.delivered else after)
            case _:
                assert_never(outcome)

    async def _tidy(self, now: datetime) -> None:
        if self._tidied != now.date():
            self._tidied = now.date()
            await self._writer.tidy(now)

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await self.news.wait()


def _fingerprint(destination: EventDestination) -> str:
    """Return what stands for where and how a destination is reached; secrets are long enough to be hashed."""
    parts = (
        destination.type,
        destination.path,
        destination.url,
        destination.secrets,
        destination.batch,
        destination.allow_private,
        destination.servers,
        destination.stream,
        destination.credentials,
        destination.format,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
