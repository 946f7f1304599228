"""Flags that say what runs a bundle's graphs, and where."""

from __future__ import annotations

import argparse

__all__ = ["add_backend_flags"]


def add_backend_flags(parser: argparse.ArgumentParser, *, with_precision: bool = True) -> None:
    """`--backend`, `--device` and `--precision`; what is named and does not work is an error, `auto` takes the best that does."""
    parser.add_argument(
        "--backend",
        choices=("auto", "onnxruntime", "tensorrt", "tensorrt-rtx"),
        default="auto",
        help="what runs the graphs (auto: an engine that fits, else ONNX Runtime)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where (auto: on the GPU if it can)")
    if not with_precision:
        return
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "fp16", "int8"),
        default="auto",
        help="of the graphs; the bundle must have it (auto: on a GPU fp16 before fp32, on the CPU fp32)",
    )
