"""Run the targets for some minutes in all, run one input of one target again, or make it small.

    python -m fuzz --minutes 30 [--jobs 2] [TARGET...]
    python -m fuzz --replay TARGET FILE...
    python -m fuzz --shrink TARGET FILE...

Targets share the minutes, each in a process of its own. What the engine learns is kept in `var/fuzz/corpus/TARGET` and
grows from run to run; an input that breaks a law is kept in `var/fuzz/findings/TARGET`. Ends with status 1 if there
was a finding. A run of all targets writes `bench/results/fuzz.json`.

A unit that takes longer than `UNIT_S` is a finding too: its input has at most 2 KB.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench._measure import ROOT, write
from fuzz.shrink import shrink
from fuzz.targets import TARGETS, Target

UNIT_S: Final = 10
_FOLDER: Final = ROOT / "var" / "fuzz"
_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units: (\d+)|^#(\d+)\t|^Done (\d+) runs", re.MULTILINE)
_COVERAGE: Final = re.compile(r"^#\d+\t.* cov: (\d+) ft: (\d+)", re.MULTILINE)
_SHOWN_LINES: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one target came to. `coverage` and `features` are the engine's counts of branches and of their pairs."""

    target: str
    minutes: float
    executions: int
    coverage: int
    features: int
    corpus: int
    findings: tuple[str, ...]


def main() -> None:
    """Fuzz, replay or shrink."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Search for input that breaks a law.")
    parser.add_argument("--minutes", type=float, default=30, help="for all targets together (30)")
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at the same time (1)")
    parser.add_argument("--replay", action="store_true", help="run a target over files instead: TARGET FILE...")
    parser.add_argument("--shrink", action="store_true", help="write FILE.small, which breaks the same: TARGET FILE...")
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all where none is named")
    given = parser.parse_args()
    if given.replay or given.shrink:
        sys.exit(_again(given.names, _shrink if given.shrink else _replay))
    unknown = [name for name in given.names if name not in TARGETS]
    if unknown or given.minutes <= 0 or given.jobs < 1:
        parser.error(f"no such target: {', '.join(unknown)}" if unknown else "minutes and jobs are above 0")
    sys.exit(_fuzz([TARGETS[name] for name in given.names or TARGETS], given.minutes, given.jobs))


def _again(names: Sequence[str], act: Callable[[Target, Path], None]) -> str | None:
    target = TARGETS.get(names[0]) if names else None
    if target is None or len(names) < 2:
        return f"a target and files are needed; there are {', '.join(TARGETS)}"
    for name in names[1:]:
        act(target, Path(name))
    return None


def _replay(target: Target, path: Path) -> None:
    target.run(path.read_bytes())  # what is wrong is raised
    print(f"{path}: no law of {target.name} is broken")


def _shrink(target: Target, path: Path) -> None:
    small = shrink(target.run, path.read_bytes())
    written = path.with_name(f"{path.name}.small")
    written.write_bytes(small)
    print(f"{written}: {len(small)} bytes, {small!r}")


def _fuzz(targets: Sequence[Target], minutes: float, jobs: int) -> int:
    shares = sum(target.share for target in targets)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        seconds_each = minutes * 60 * jobs / shares
        outcomes = list(pool.map(partial(_run, seconds_each=seconds_each), targets))
    findings = sum(len(outcome.findings) for outcome in outcomes)
    result = {
        "command": f"make fuzz MINUTES={minutes:g} JOBS={jobs}",
        "minutes": round(sum(outcome.minutes for outcome in outcomes), 1),
        "executions": sum(outcome.executions for outcome in outcomes),
        "findings": findings,
        "targets": [asdict(outcome) for outcome in outcomes],
    }
    if len(targets) == len(TARGETS):
        write("fuzz", result, ["atheris"])
    return 1 if findings else 0


def _run(target: Target, *, seconds_each: float) -> Outcome:
    """Run one target in a process of its own, and count what came of it."""
    corpus, findings = _FOLDER / "corpus" / target.name, _FOLDER / "findings" / target.name
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in target.inputs():
        (corpus / name.replace(" ", "-")).write_bytes(data)
    dictionary = _FOLDER / f"{target.name}.dict"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    known = set(findings.iterdir())
    seconds = max(1, round(seconds_each * target.share))
    print(f"{target.name}: {seconds} s", flush=True)
    began = time.monotonic()
    options = {
        "max_total_time": seconds,
        "max_len": target.max_bytes,
        "timeout": UNIT_S,
        "dict": dictionary,
        "artifact_prefix": f"{findings}/",
        "print_final_stats": 1,
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fuzz.engine",
            target.name,
            *(f"-{key}={value}" for key, value in options.items()),
            corpus,
        ],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    new = {path for path in set(findings.iterdir()) - known if path.suffix != ".small"}
    found = sorted(path.relative_to(ROOT).as_posix() for path in new)
    if done.returncode and not found:
        found = [f"the engine ended with status {done.returncode}"]
    if found:
        tail = "\n".join(done.stdout.splitlines()[-_SHOWN_LINES:])
        print(f"{target.name}: FINDING {', '.join(found)}\n{tail}", flush=True)
    coverage, features = ([("0", "0"), *_COVERAGE.findall(done.stdout)])[-1]
    executions = max((int("".join(groups)) for groups in _EXECUTIONS.findall(done.stdout)), default=0)
    outcome = Outcome(
        target=target.name,
        minutes=round((time.monotonic() - began) / 60, 2),
        executions=executions,
        coverage=int(coverage),
        features=int(features),
        corpus=sum(1 for _ in corpus.iterdir()),
        findings=tuple(found),
    )
    print(f"{target.name}: {executions} executions, coverage {coverage}, {len(found)} findings", flush=True)
    return outcome


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


if __name__ == "__main__":
    main()
