"""What this machine has for edge-run, what is missing, and the command that mends it."""

from __future__ import annotations

from edge_runtime.doctor.examination import examine
from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.machine import Machine
from edge_runtime.doctor.page import as_json, as_text, can_run

__all__ = ["Finding", "Machine", "as_json", "as_text", "can_run", "examine"]
