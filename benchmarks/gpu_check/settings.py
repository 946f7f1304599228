"""How much is measured; the same for every part, and handed to their processes as JSON, which `python -m` of this module prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["FULL", "TOY", "Settings", "decode_settings", "encode_settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes and counts.

    Attributes:
        side, width: of the network: input in pixels, channels of its first level.
        trajectory_frames: of the run against NumPy.
        pools: (queries, size, items) of the memory steps that are timed; the first has the reach.
        replays: memory steps in one timed block.
        blocks, block_frames: timed blocks, and frames of each; what is compared takes turns, block by block.
        steady_frames: over which nothing may be allocated.
        yardstick: where PyTorch runs: `cuda`; `cpu` in the tests of the check itself.
        footage: a folder of normal footage; None: the built-in scene.
        bundle: of the full-size model, made elsewhere; None: exported here.
        runs_suite: the hardware suite belongs to the check; off in the tests of the check itself.
    """

    side: int = 256
    width: int = 64
    trajectory_frames: int = 500
    pools: tuple[tuple[int, int, int], ...] = ((1024, 512, 10), (16384, 128, 10), (2048, 256, 2000))
    replays: int = 200
    blocks: int = 11
    block_frames: int = 50
    steady_frames: int = 1000
    yardstick: str = "cuda"
    footage: str | None = None
    bundle: str | None = None
    runs_suite: bool = True


FULL = Settings()
TOY = Settings(
    side=32,
    width=2,
    trajectory_frames=8,
    pools=((16, 8, 3), (20, 4, 3), (9, 8, 11)),
    replays=2,
    blocks=2,
    block_frames=3,
    steady_frames=8,
    yardstick="cpu",
    runs_suite=False,
)


def encode_settings(settings: Settings) -> str:
    return json.dumps(asdict(settings))


def decode_settings(text: str) -> Settings:
    values = json.loads(text)
    return Settings(**{**values, "pools": tuple(tuple(pool) for pool in values["pools"])})


if __name__ == "__main__":
    print(encode_settings(FULL))
