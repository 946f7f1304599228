"""Files whose names count, as those of frames and masks mostly do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

__all__ = ["Count", "count_of", "name_with"]

NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")
# How far times of day jump at the end of a minute, an hour and a day, as from 120059 to 120100.
CARRIES = {40, 4_040, 764_040}


@dataclass(frozen=True)
class Count:
    """How files count.

    Attributes:
        numbers: of each file.
        step: by how much they go up, where no file is missing: 5 where every fifth frame is kept.
    """

    numbers: tuple[int, ...]
    step: int

    def steps_to(self, position: int) -> float:
        """From the first file to one, those between that are missing counted."""
        return (self.numbers[position] - self.numbers[0]) / self.step


def count_of(files: Sequence[Path]) -> Count | None:
    """How files in natural order count; None where their names do not, are times of day, or differ in more than a number."""
    if not all(NUMBERED.fullmatch(file.stem) for file in files):
        return None
    parts = [_parts(file) for file in files]
    if len({(start, end) for start, _, end in parts}) != 1:
        return None
    numbers = tuple(int(digits) for _, digits, _ in parts)
    steps = Counter(after - before for before, after in pairwise(numbers))
    if not steps:
        return None
    step, times = steps.most_common(1)[0]
    counts = step > 0 and 2 * times > steps.total() and all(other % step == 0 for other in steps)
    return Count(numbers, step) if counts and not _are_times_of_day(numbers, steps, step) else None


def name_with(file: Path, number: int) -> str:
    """The name, without its ending, that a file like this one would have with another number."""
    start, digits, end = _parts(file)
    return f"{start}{number:0{len(digits)}}{end}"


def _are_times_of_day(numbers: Sequence[int], steps: Collection[int], step: int) -> bool:
    jumps = {other - step for other in steps if other != step}
    return bool(jumps) and jumps <= CARRIES and all(number % 100 < 60 for number in numbers)


def _parts(file: Path) -> tuple[str, str, str]:
    """What stands before the last number of a file's name, the number, and what stands after it."""
    match = NUMBERED.fullmatch(file.stem)
    assert match is not None
    return match[1], match[2], match[3]
