"""The console's HTTP server: one page that says what runs and where.

There is no login yet, so it is for this machine alone: it listens on loopback, and answers only requests that name
loopback as their host. Without the latter, a page on the web could have its own name resolve to 127.0.0.1 and read the
console through the operator's browser (DNS rebinding).
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address
from typing import Final

import jinja2
from aiohttp import web

from tracker.console.overview import ProcessView, StorageView

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; script-src 'none'; frame-ancestors 'none'; form-action 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "console",
}


def make_app(
    process: Callable[[], Awaitable[ProcessView]], storage: Callable[[], Awaitable[StorageView]]
) -> web.Application:
    """Make the application; both are asked at each request."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tracker.console"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("overview.html")
    style = files("tracker.console").joinpath("static/console.css").read_text(encoding="utf-8")

    async def overview(_: web.Request) -> web.Response:
        html = page.render(process=await process(), storage=await storage())
        return web.Response(text=html, content_type="text/html", charset="utf-8")

    async def stylesheet(_: web.Request) -> web.Response:
        return web.Response(text=style, content_type="text/css", charset="utf-8")

    app = web.Application(middlewares=[_guard])
    app.router.add_get("/", overview)
    app.router.add_get("/static/console.css", stylesheet)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse other hosts, and put the security headers on every answer."""
    response: web.StreamResponse
    if not _is_loopback(request.url.host or ""):
        response = web.Response(status=421, text="The console answers on loopback only.\n")
    else:
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(_HEADERS)
            raise
    response.headers.update(_HEADERS)
    return response


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
