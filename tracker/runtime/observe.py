"""What an operator sees of a process: its log, its metrics, whether it is live and ready.

Owns the shape of log lines, the silencing of the libraries' own loggers, and the metrics server. The events that are
logged and the numbers that are counted belong to the rooms where they happen; docs/reference lists them.
"""

import hashlib
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable
from typing import Final, Literal, TextIO

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from structlog.typing import EventDict, Processor, WrappedLogger

from tracker.runtime import sharedmetrics

ADDRESS_KEYS: Final = ("recipient", "sender")  # the keys under which a room may log a mail address

MALFORMED_REQUESTS: Final = Counter(
    "mailwake_http_malformed_requests_total", "HTTP requests that could not be parsed and were answered 400."
)
RELOADS: Final = Counter(
    "mailwake_reloads_total", "Times the configuration was read again, by what came of it.", ["result"]
)
SERVING: Final = Gauge("mailwake_processes", "Processes that serve.", multiprocess_mode="livesum")
_ACCESS: Final = "aiohttp.access"  # its lines would hold tokens and addresses of visitors
_QUIET: Final = ("asyncio", "aiohttp", "alembic", "sqlalchemy", "aiosmtplib")  # nothing under WARNING
_HASH_CHARACTERS: Final = 12
_ADDRESS: Final = re.compile(r"""[^\s@<>()\[\]",:;]{1,64}+@[^\s@<>()\[\]",:;]{1,255}+""")


def configure_logging(
    *,
    level: str,
    form: Literal["auto", "text", "json"],
    addresses: bool,
    stream: TextIO | None = None,
) -> None:
    """Send every log line of this process to `stream` (standard error), one event a line.

    `level` is `"debug"` to `"error"`; `addresses` false replaces each mail address by a hash that is the same within
    this process only, so that lines can be matched and nobody can try addresses against it; one inside of another text,
    an upstream's reply or an exception's, becomes `<address>`.
    """
    stream = stream or sys.stderr
    as_text = form == "text" or (form == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not addresses:
        shared.append(_hash_addresses(secrets.token_bytes(32)))
    # Tracebacks become text here, by the plain formatter: the library's own for terminals prints the local variables,
    # and those hold mail.
    rendering: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
    ]
    if not addresses:
        rendering.append(_cover_addresses)
    if as_text:
        rendering.append(structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    else:
        rendering.append(structlog.processors.JSONRenderer())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger(_ACCESS).disabled = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    server = logging.getLogger("aiohttp.server")
    if _count_malformed not in server.filters:
        server.addFilter(_count_malformed)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def make_metrics_app(not_ready: Callable[[], str | None]) -> web.Application:
    """Make the server of `/metrics`, `/healthz` and `/readyz`; `not_ready` says why mail cannot be taken, or None."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=_metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = not_ready()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def _metrics() -> bytes:
    """Write the metrics of this process; of all that serve together where they share a folder for them."""
    if sharedmetrics.VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _hash_addresses(key: bytes) -> Processor:
    def process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name in ADDRESS_KEYS:
            if name in event:
                raw = str(event.pop(name)).encode(errors="replace")
                event[f"{name}_hash"] = hashlib.blake2b(raw, key=key).hexdigest()[:_HASH_CHARACTERS]
        return event

    return process


def _cover_addresses(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take addresses out of texts that others wrote: upstreams like to repeat the recipient in a refusal."""
    for name, value in event.items():
        if isinstance(value, str) and "@" in value:
            event[name] = _ADDRESS.sub("<address>", value)
    return event


def _count_malformed(record: logging.LogRecord) -> bool:
    """Count what is no HTTP instead of logging it: a scanner would fill the log, and the line holds a token's bytes."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        MALFORMED_REQUESTS.inc()
        return False
    return True
