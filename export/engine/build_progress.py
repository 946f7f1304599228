"""A builder's phases as one progress bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

__all__ = ["BuildProgress", "attach_progress"]

PARTS_OF_BAR = 1000


@dataclass
class _Phase:
    """A phase, and how far it is: `done` of `steps`, and the share of its next step that its own phases have done."""

    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """How far a build is, from the nested phases that a builder reports; a bar on a terminal, nothing elsewhere.

    Attributes:
        is_interrupted: Ctrl-C came while the builder was calling; it is asked to stop.
    """

    def __init__(self, title: str) -> None:
        self.is_interrupted = False
        self._phases: dict[str, _Phase] = {}
        self._bar = tqdm(total=PARTS_OF_BAR, desc=title, disable=None, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}")

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._phases[name] = _Phase(parent, max(steps, 1))
        self._bar.set_postfix_str(name, refresh=False)

    def step(self, name: str, number: int) -> None:
        """Step `number` of a phase, counted from 0, is complete."""
        self._phases[name].done = number + 1
        self._bar.update(max(int(PARTS_OF_BAR * self.share) - self._bar.n, 0))

    def finish(self, name: str) -> None:
        """A phase is complete; with the outermost one the bar is full."""
        phase = self._phases.pop(name, None)
        if phase is not None and phase.parent is None:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.update(PARTS_OF_BAR - self._bar.n)

    def close(self) -> None:
        self._bar.close()

    @property
    def share(self) -> float:
        """What is done, in [0, 1]."""
        return max((self._share(name) for name, phase in self._phases.items() if phase.parent is None), default=0.0)

    def _share(self, name: str) -> float:
        phase = self._phases[name]
        within = max((self._share(child) for child, other in self._phases.items() if other.parent == name), default=0.0)
        return min((phase.done + within) / phase.steps, 1.0)


def attach_progress(trt: Any, config: Any, progress: BuildProgress) -> Any:
    """Let a builder report to a bar, from TensorRT 10 on; the monitor that is given back must live as long as the build."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):
        """An exception must not leave these methods: it would end the process."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            try:
                progress.start(phase_name, parent_phase, num_steps)
            except KeyboardInterrupt:
                progress.is_interrupted = True

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress.step(phase_name, step)
            except KeyboardInterrupt:
                progress.is_interrupted = True
            return not progress.is_interrupted

        def phase_finish(self, phase_name: str) -> None:
            try:
                progress.finish(phase_name)
            except KeyboardInterrupt:
                progress.is_interrupted = True

    monitor = Monitor()
    config.progress_monitor = monitor
    return monitor
