"""Two verifiers of DKIM that others wrote: dkimpy and OpenDKIM, as programs of this machine, without DNS.

Both read many messages in one call, and give a verdict for each.
"""

import base64
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import machine

_TIMEOUT_S = 50
_DKIMPY = """
import base64, json, sys
import dkim
task = json.load(sys.stdin)
def ask(name, timeout=5):
    return task["records"].get(name.decode().rstrip(".")).encode()
print(json.dumps([bool(dkim.verify(base64.b64decode(message), dnsfunc=ask)) for message in task["messages"]]))
"""
_VERDICT = re.compile(r"(\d+)\.eml: verification \(s=\S+,? d=[^)]*\) (succeeded|failed)")


def dkimpy(messages: Sequence[bytes], records: Mapping[str, str]) -> list[bool]:
    """Say of each message whether dkimpy verifies its first signature. `records` are texts by their names in DNS."""
    python = Path(machine.require_tool("dkimverify")).read_text().partition("\n")[0].removeprefix("#!").strip()
    task = {"messages": [base64.b64encode(message).decode() for message in messages], "records": dict(records)}
    done = subprocess.run(
        [python, "-I", "-c", _DKIMPY],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts: list[bool] = json.loads(done.stdout)
    return verdicts


def opendkim(messages: Sequence[bytes], records: Mapping[str, str], folder: Path) -> list[bool]:
    """The same of OpenDKIM, of every signature of each message; `folder` is for its files."""
    program = machine.require_tool("opendkim")
    paths = [folder / f"{number}.eml" for number in range(len(messages))]
    for path, message in zip(paths, messages, strict=True):
        path.write_bytes(message)
    (folder / "dns").write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    (folder / "opendkim.conf").write_text(f"Mode v\nTestDNSData {folder / 'dns'}\n")
    done = subprocess.run(
        [program, "-x", str(folder / "opendkim.conf"), "-t", ",".join(map(str, paths))],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    output = done.stdout + done.stderr
    found: dict[int, bool] = {}
    for number, verdict in _VERDICT.findall(output):
        found[int(number)] = found.get(int(number), True) and verdict == "succeeded"
    assert found.keys() == set(range(len(messages))), output
    return [found[number] for number in range(len(messages))]
