"""A finding made small: bytes are taken away, others made plain, while the same law breaks at the same line."""

import traceback
from collections.abc import Callable

_PLAIN = (0x00, 0x61)

Run = Callable[[bytes], None]
Break = tuple[str, str, int | None]


def shrink(run: Run, data: bytes) -> bytes:
    """Return the smallest input found; the input itself where nothing breaks."""
    broken = _break(run, data)
    if broken is None:
        return data
    size = max(len(data) // 2, 1)
    while size:
        start = 0
        while start < len(data):
            shorter = data[:start] + data[start + size :]
            if _break(run, shorter) == broken:
                data = shorter
            else:
                start += size
        size //= 2
    for place, octet in enumerate(data):
        for plain in _PLAIN:
            simpler = data[:place] + bytes([plain]) + data[place + 1 :]
            if not 0x20 <= octet < 0x7F and octet != plain and _break(run, simpler) == broken:
                data = simpler
                break
    return data


def _break(run: Run, data: bytes) -> Break | None:
    """Say what breaks: the kind of exception, and where the law, or else the code, raised it."""
    try:
        run(data)
    except Exception as error:  # noqa: BLE001 - whatever the input raises is what is asked for
        frames = traceback.extract_tb(error.__traceback__)
        laws = [frame for frame in frames if "/laws/" in frame.filename.replace("\\", "/")]
        frame = (laws or frames)[-1]
        return type(error).__name__, frame.name, frame.lineno
    return None
