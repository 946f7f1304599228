"""NVIDIA's compiler, where there is one."""

from __future__ import annotations

import os
import shutil

__all__ = ["find_nvcc"]


def find_nvcc() -> str | None:
    """Path of nvcc; None if there is none."""
    return shutil.which("nvcc", path=f"{os.environ['PATH']}:/usr/local/cuda/bin")
