"""Which elements are open around a place in a document, as far as an opt-out on one of them has to be inherited.

Owns an approximation of the stack of open elements: end tags close what stands in the same cell or table, an element
whose end tag may be left out (`<p>`, `<li>`, `<td>` …) ends where the next of its kind begins. It does not build a
tree, and knows nothing of formatting elements. Bounded: each element is pushed and popped once, a search never goes
further than one table, and beyond MAX_OPEN open elements the rest of the document counts as opted out.

Standards: HTML §13.2.4.3 (the stack and its scopes), §13.1.2.4 (optional tags).
"""

from typing import Final

MAX_OPEN: Final = 4096  # browsers stop at a depth of 512

# Elements without content, and the one whose opt-out is its own affair.
_VOID: Final = frozenset(
    b"a area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr".split()
)
# These stay out of the way of what ends where another begins, unless their own ends have to be told apart.
_INLINE: Final = frozenset(
    b"abbr b bdo big cite code del em font i ins label nobr o:p s small span strike strong sub sup tt u".split()
)
_CELLS: Final = frozenset({b"td", b"th", b"caption"})
_ROWS: Final = frozenset({b"tr"})
_GROUPS: Final = frozenset({b"thead", b"tbody", b"tfoot"})
_IN_TABLE: Final = _CELLS | _ROWS | _GROUPS  # each ends an open cell
_NEVER_ENDED: Final = frozenset({b"body", b"html"})  # what follows their end tags still belongs to them
_BLOCKS: Final = (
    b"address article aside blockquote center details div dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr "
    b"main menu nav ol p pre section table ul"
).split()
# What a start tag closes while it is the innermost open element.
_CLOSED_BY: Final[dict[bytes, frozenset[bytes]]] = {
    **dict.fromkeys(_BLOCKS, frozenset({b"p"})),
    b"li": frozenset({b"li", b"p"}),
    b"dt": frozenset({b"dt", b"dd", b"p"}),
    b"dd": frozenset({b"dt", b"dd", b"p"}),
    b"option": frozenset({b"option"}),
    b"optgroup": frozenset({b"option", b"optgroup"}),
    b"tr": _ROWS,
    **dict.fromkeys(_GROUPS, _ROWS | _GROUPS),
}


class OpenElements:
    """The open elements; ask `opted_out` at any point of the walk."""

    __slots__ = ("_frames", "_open", "_opted_out", "_overflown")

    def __init__(self) -> None:
        self._frames = [_Frame(b"")]
        self._open = 0
        self._opted_out = 0
        self._overflown = False

    @property
    def opted_out(self) -> bool:
        """True while an open element bears an opt-out."""
        return self._opted_out > 0 or self._overflown

    def start(self, name: bytes, *, opted_out: bool) -> None:
        """Take in a start tag, for example `b"div"`."""
        frame = self._frames[-1]
        if name in _VOID or (name in _INLINE and not opted_out and name not in frame.counts):
            return
        if name in _IN_TABLE:
            self._leave_cell()
        closed = _CLOSED_BY.get(name, frozenset())
        while self._frames[-1].innermost in closed:
            self._pop()
        if self._open >= MAX_OPEN:
            self._overflown = True
            return
        self._frames[-1].push(name, opted_out=opted_out)
        self._open += 1
        self._opted_out += opted_out
        if name in _CELLS or name == b"table":
            self._frames.append(_Frame(name))

    def end(self, name: bytes) -> None:
        """Take in an end tag; one that closes nothing in its cell or table is ignored, as browsers do."""
        if name == b"table":
            self._leave_table()
        elif name in _CELLS:
            self._leave_cell()
        elif name not in _NEVER_ENDED:
            if name in _IN_TABLE:
                self._leave_cell()
            if name in self._frames[-1].counts:
                while self._pop() != name:
                    pass

    def _leave_cell(self) -> None:
        """Close the open cell with all that is in it; outside one, nothing."""
        if self._frames[-1].owner in _CELLS:
            self._leave_frame()

    def _leave_table(self) -> None:
        """Close the innermost table; its open cell, if there is one, is the innermost frame."""
        if any(frame.owner == b"table" for frame in self._frames[-2:]):
            self._leave_cell()
            self._leave_frame()

    def _leave_frame(self) -> None:
        while self._frames[-1].stack:
            self._pop()
        self._frames.pop()
        self._pop()  # the cell or the table itself

    def _pop(self) -> bytes:
        name, opted_out = self._frames[-1].pop()
        self._open -= 1
        self._opted_out -= opted_out
        return name


class _Frame:
    """What is open within one cell or one table: names with their opt-outs, and how often each name occurs."""

    __slots__ = ("counts", "owner", "stack")

    def __init__(self, owner: bytes) -> None:
        self.owner = owner
        self.stack: list[tuple[bytes, bool]] = []
        self.counts: dict[bytes, int] = {}

    @property
    def innermost(self) -> bytes:
        return self.stack[-1][0] if self.stack else b""

    def push(self, name: bytes, *, opted_out: bool) -> None:
        self.stack.append((name, opted_out))
        self.counts[name] = self.counts.get(name, 0) + 1

    def pop(self) -> tuple[bytes, bool]:
        entry = self.stack.pop()
        self.counts[entry[0]] -= 1
        if not self.counts[entry[0]]:
            del self.counts[entry[0]]
        return entry
