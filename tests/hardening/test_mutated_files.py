"""More than 10,000 damaged manifests, graphs, memories and states: each is scored, or refused with an EdgeError.

Where a hash guards a file, damage is done twice: under the old hash, and under a hash made right again, so that the parsers behind it
are reached. Nothing is excluded: a file that crashes, hangs or swells the process that reads it fails here. The damage is random,
though, and small: a graph made with intent (an endless Loop, a tensor of a terabyte) is ONNX Runtime's to run, and a bundle from a
hand that nobody trusts is not what hashes guard against.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hardening.judge import BROKEN, REFUSED, SCORED, Verdict
from tests.kit.commands import ROOT, environment

pytestmark = pytest.mark.slow

CASES = {
    "manifest/bytes": 1400,
    "manifest/values": 2000,
    "graph/unhashed": 500,
    "graph/bytes": 1200,
    "graph/fields": 2000,
    "memory/unhashed": 400,
    "memory/bytes": 700,
    "memory/values": 700,
    "state/bytes": 600,
    "state/values": 600,
}
UNHASHED = [kind for kind in CASES if kind.endswith("unhashed")]
REHASHED = ["graph/bytes", "graph/fields", "memory/bytes", "memory/values"]
HANGS_AFTER_S = 30
LARGEST_PEAK_MIB = 400  # about 90 without damage
SLICES = 2  # of every kind, so that no worker ends long after the others


@pytest.fixture(scope="module")
def verdicts(toy_originals: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Verdict]]:
    """All cases of all kinds, in as many processes as there are cores."""
    toys = next(iter(toy_originals.values())).parent
    slices = [(kind, count * i // SLICES, count * (i + 1) // SLICES) for kind, count in CASES.items() for i in range(SLICES)]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as workers:
        jobs = [(kind, workers.submit(judged, toys, tmp_path_factory.mktemp("work"), kind, *cases)) for kind, *cases in slices]
        found: dict[str, list[Verdict]] = {kind: [] for kind in CASES}
        for kind, job in jobs:
            found[kind] += job.result()
    return found


def judged(toys: Path, work: Path, kind: str, first: int, stop: int, hangs_after_s: float = HANGS_AFTER_S) -> list[Verdict]:
    """The verdicts of cases first ≤ i < stop; a case that takes its judge along is broken, and the next has a new judge."""
    found: list[Verdict] = []
    while first + len(found) < stop:
        case = first + len(found)
        command = [sys.executable, "-W", "error", "-m", "tests.hardening.judge", *map(str, (toys, work, kind, case, stop))]
        with (
            open(work / "stderr", "wb") as stderr,
            subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=stderr) as judge,
        ):
            answers, death = follow(judge, hangs_after_s)
        found += answers
        if first + len(found) < stop:
            said = (work / "stderr").read_text(errors="replace")[-2000:]
            found.append(Verdict(first + len(found), BROKEN, f"{death}: {said}", 0.0))
    return found


def follow(judge: subprocess.Popen[bytes], hangs_after_s: float) -> tuple[list[Verdict], str]:
    """What a judge says until it ends or is stuck, and which of both."""
    assert judge.stdout is not None
    answers, rest = [], b""
    while select.select([judge.stdout], [], [], hangs_after_s)[0]:
        content = os.read(judge.stdout.fileno(), 1 << 16)
        if not content:
            return answers, f"its judge ended with {judge.wait()}"
        *lines, rest = (rest + content).split(b"\n")
        answers += [Verdict(**json.loads(line)) for line in lines]
    judge.kill()
    return answers, f"no verdict in {hangs_after_s} s"


@pytest.mark.parametrize("kind", CASES)
def test_a_damaged_file_is_scored_or_refused(kind: str, verdicts: dict[str, list[Verdict]]) -> None:
    assert [verdict.case for verdict in verdicts[kind]] == list(range(CASES[kind]))
    broken = [verdict for verdict in verdicts[kind] if verdict.outcome == BROKEN]
    assert not broken, f"{len(broken)} of {CASES[kind]}; again: python -m tests.hardening.judge TOYS WORK {kind} {broken[0].case} …"


@pytest.mark.parametrize("kind", CASES)
def test_no_damaged_file_swells_the_process(kind: str, verdicts: dict[str, list[Verdict]]) -> None:
    assert 0 < max(verdict.peak_mib for verdict in verdicts[kind]) < LARGEST_PEAK_MIB


@pytest.mark.parametrize("kind", UNHASHED)
def test_a_file_that_is_not_the_one_that_was_hashed_is_refused_as_that(kind: str, verdicts: dict[str, list[Verdict]]) -> None:
    refused = [verdict.reason for verdict in verdicts[kind] if verdict.outcome == REFUSED]
    assert len(refused) > 0.98 * CASES[kind]  # the others came out of their damage as they were
    assert all(reason.startswith("IntegrityError") for reason in refused)


@pytest.mark.parametrize("kind", REHASHED)
def test_damage_under_a_right_hash_reaches_the_parsers(kind: str, verdicts: dict[str, list[Verdict]]) -> None:
    outcomes = Counter(verdict.outcome for verdict in verdicts[kind])
    assert min(outcomes[SCORED], outcomes[REFUSED]) > 0.05 * CASES[kind]
    assert not any(verdict.reason.startswith("IntegrityError") for verdict in verdicts[kind])


def test_there_are_ten_thousand_cases(verdicts: dict[str, list[Verdict]]) -> None:
    assert sum(map(len, verdicts.values())) >= 10_000


@pytest.mark.parametrize(
    ("kind", "reason", "hangs_after_s"),
    [
        ("planted/error", "ValueError: planted", HANGS_AFTER_S),
        ("planted/crash", "its judge ended with -11", HANGS_AFTER_S),
        ("planted/hang", "no verdict in 3 s", 3),
    ],
)
def test_what_must_not_happen_would_be_noticed(
    kind: str, reason: str, hangs_after_s: float, toy_originals: dict[str, Path], tmp_path: Path
) -> None:
    toys = next(iter(toy_originals.values())).parent
    found = judged(toys, tmp_path, kind, 0, 2, hangs_after_s)
    assert [(verdict.case, verdict.outcome) for verdict in found] == [(0, BROKEN), (1, BROKEN)]
    assert all(reason in verdict.reason for verdict in found)
