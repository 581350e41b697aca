"""Options, mints and small messages for tests of plan, render and witness."""

from dataclasses import dataclass

from relay.core import plan, render
from relay.core.linkrules import LinkRules
from relay.core.plan import Link, RewriteOptions, RewritePlan

HOST = "trace.shop.example"


@dataclass(frozen=True, slots=True)
class FixedMint:
    """Makes readable URLs whose token has the given length; that of another copy has another `copy`."""

    copy: str = "c1"
    token_characters: int = 24
    base: str = f"https://{HOST}"

    def link_url(self, link: Link) -> str:
        """`https://trace.shop.example/l/c1-html-0-xxxx`."""
        return f"{self.base}/l/{self._token(f'{self.copy}-{link.part}-{link.index}-')}"

    def pixel_url(self) -> str:
        """`https://trace.shop.example/i/c1-pixel-xxxx`."""
        return f"{self.base}/i/{self._token(f'{self.copy}-pixel-')}"

    def _token(self, start: str) -> str:
        return start.ljust(self.token_characters, "x")


def options(
    *,
    opens: bool = True,
    html_links: bool = True,
    text_links: bool = True,
    max_links: int = 250,
    rules: LinkRules | None = None,
    resign: bool = False,
) -> RewriteOptions:
    """Return options that track everything, but for what is said."""
    return RewriteOptions(
        open_tracking=opens,
        html_links=html_links,
        text_links=text_links,
        max_links=max_links,
        rules=rules or LinkRules(own_hosts=frozenset({HOST})),
        resign=resign,
    )


NOTHING = options(opens=False, html_links=False, text_links=False)


def mail(text: str) -> bytes:
    """Return a message written with LF, with CRLF."""
    return text.replace("\n", "\r\n").encode()


def html_mail(body: str, *header: str) -> bytes:
    """Return a message of one HTML part."""
    fields = ["MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", *header]
    return mail("\n".join([*fields, "", body]))


def text_mail(body: str, *header: str) -> bytes:
    """Return a message of one text part."""
    return mail("\n".join(["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", *header, "", body]))


def copy_of(message: bytes, chosen: RewriteOptions | None = None, mint: FixedMint | None = None) -> bytes:
    """Return the copy that plan and render make."""
    return joined(plan.make(message, chosen or options()), mint)


def joined(made: RewritePlan, mint: FixedMint | None = None) -> bytes:
    """Return a rendered plan as bytes."""
    return b"".join(render.render(made, mint or FixedMint()))


def reasons(made: RewritePlan) -> dict[str, str]:
    """Return the reason of each part that is left, by section."""
    return {skip.section: skip.reason.value for skip in made.skips if skip.url is None}
