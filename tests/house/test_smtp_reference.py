"""`docs/reference/smtp.md` lists every reply that a client can get, with its text, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.house.sources import modules, shown
from tests.machine import ROOT

_ROW = re.compile(r"^\| `([2-5][0-9]{2}(?: [245]\.[0-9]+\.[0-9]+)?)` \| `([^`]*)` \|", re.MULTILINE)


def test_every_reply_is_documented() -> None:
    """A client's log shows a code and a text; the page says when it is given. `…` stands for what varies."""
    page = (ROOT / "docs" / "reference" / "smtp.md").read_text(encoding="utf-8")

    assert set(_ROW.findall(page)) == {(code, text) for code, text, _ in _replies()}


def test_replies_are_told_apart_by_code_and_text() -> None:
    """Two causes never share a line of a client's log."""
    made = [(code, text) for code, text, _ in _replies()]

    assert sorted(made) == sorted(set(made))


def _replies() -> Iterator[tuple[str, str, str]]:
    """Walk the calls `Reply(code=250, enhanced="2.0.0", text="Ok")` of the relay."""
    for _, path, tree in modules("relay"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Reply":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                yield (
                    f"{_text(given['code'])} {_text(given['enhanced'])}".strip(),
                    _text(given["text"]),
                    shown(path, node.lineno),
                )


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case _:
            return "…"
