"""The tests that need a GPU, with what fails written down as it fails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import Settings

__all__ = ["RECORDED", "SUITES", "measure"]

WITH_ENGINES = "tests/hardware/test_detector_on_gpu.py"
"""It builds engines, which may take minutes, so it is a suite of its own."""

SUITES = {
    "hardware": ["tests/hardware", f"--ignore={WITH_ENGINES}"],
    "detector": [WITH_ENGINES],
    "contract": ["tests/contract/test_graphs_and_devices.py"],
}
LONGEST_TEXT = 3000  # characters
RECORDED = "row"
"""A property of a test: what, got, unit, how. A figure without a reach."""


def measure(settings: Settings, work: Path, findings: Findings, suite: str) -> None:
    """Run a suite; the GPU is required, what needs a library that is not here is skipped and told.

    Raises:
        RuntimeError: pytest itself did not run.
    """
    told = _Told(findings)
    # Warnings of packages in other versions than the project's own are no failures of the GPU.
    flags = ["-q", "-W", "default", "-m", "not stand_in", "--require=gpu", f"--basetemp={work / suite}"]
    code = pytest.main([*flags, *SUITES[suite]], plugins=[told])
    for reason, count in told.skipped.items():
        findings.not_run(f"{count} tests of the {suite} suite", reason)
    how = f"pytest {' '.join(SUITES[suite])} --require=gpu"
    findings.row(f"{suite} suite, tests that failed", told.failed, 0, "tests", "lower", how)
    findings.row(f"{suite} suite, tests that passed", told.passed, None, "tests", "higher", how)
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        raise RuntimeError(f"pytest ended with {code!s}")


class _Told:
    """A plug-in of pytest."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.passed = 0
        self.failed = 0
        self.skipped: Counter[str] = Counter()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._fail(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._fail(report)
        elif report.skipped:
            self.skipped[_reason(report)] += 1
        elif report.when == "call":
            self.passed += 1
            for what, got, unit, how in (told for name, told in report.user_properties if name == RECORDED):
                self._findings.row(what, got, None, unit, "lower", how)

    def _fail(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        self.failed += 1
        self._findings.failure(report.nodeid, report.longreprtext[-LONGEST_TEXT:])


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr
    return told[2].removeprefix("Skipped: ") if isinstance(told, tuple) else str(told)
