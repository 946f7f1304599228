"""The memory step alone, on one thread: 1,024 queries of 512 and 10 items, as in the full-size model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from benchmarks.rows import Row

__all__ = ["measure"]

ROUNDS = 200
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def measure() -> list[Row]:
    """In a process of its own: a BLAS library reads its number of threads when it is loaded."""
    command = [sys.executable, "-m", "benchmarks.memory_step"]
    output = subprocess.run(command, env=os.environ | ONE_THREAD, check=True, capture_output=True, text=True).stdout
    ours, naive = map(float, output.split())
    how = f"1,024x512 queries, 10 items, read + distances + update (ema), one BLAS thread, median of {ROUNDS}"
    return [
        Row("NumPy memory step, full size", ours, 2.0, "ms", "lower", how),
        Row("naive NumPy memory step ÷ ours", naive / ours, None, "ratio", "higher", "query by query in Python, same arrays, same run"),
    ]


def _time_ms(step: Callable[[], object], rounds: int) -> float:
    step()
    times = []
    for _ in range(rounds):
        started = perf_counter()
        step()
        times.append(1e3 * (perf_counter() - started))
    return median(times)


def _main() -> None:
    import numpy as np

    from benchmarks.full_size import full_size_manifest
    from edge_runtime.devices.host_memory import HostBank

    rng = np.random.default_rng(0)
    query = rng.normal(size=(1, 512, 32, 32)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    items = rng.random((10, 512), np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    bank = HostBank(full_size_manifest(), {"memory": items})
    scores = {"score/regular_score": np.zeros(1, np.float32)}

    def ours() -> None:
        bank.read({"query": query})
        bank.update({"query": query}, scores)

    def naive() -> None:
        rows = query[0].reshape(512, -1).T
        logits = np.array([[row @ item for item in items] for row in rows])
        weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.array([sum(weight * item for weight, item in zip(row, items, strict=True)) for row in weights])
        nearest = logits.argmax(axis=1)
        np.mean([(row - items[m]) ** 2 for row, m in zip(rows, nearest, strict=True)])
        over_queries = np.exp(logits) / np.exp(logits).sum(axis=0)
        for m in range(10):
            sum(over_queries[k, m] / over_queries[:, m].max() * rows[k] for k in np.flatnonzero(nearest == m))

    print(_time_ms(ours, ROUNDS), _time_ms(naive, 5))


if __name__ == "__main__":
    _main()
