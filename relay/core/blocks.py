"""Slices of a message, gathered or cut into blocks of one size, so that work in bulk holds one block at a time."""

from collections.abc import Iterable, Iterator


def blocks(slices: Iterable[bytes | memoryview], block_bytes: int) -> Iterator[bytes]:
    """Yield what the slices give when joined, in blocks of `block_bytes`, the last one shorter."""
    gathered: list[bytes | memoryview] = []
    size = 0
    for piece in slices:
        view = memoryview(piece)
        while view:
            part = view[: block_bytes - size]
            view = view[len(part) :]
            gathered.append(part)
            size += len(part)
            if size == block_bytes:
                yield b"".join(gathered)
                gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
