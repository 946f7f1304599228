"""`edge-doctor`: what this machine has for edge-run, what is missing, and the command that mends it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge_runtime.commands import EXIT_ERROR, run_command

__all__ = ["main"]

LONGEST_TIMEOUT_S = 3600

EPILOG = """exit code: 0 if edge-run has what it needs, 1 if something is missing. Nothing on the machine is changed.

the service, from nothing but this package:
  edge-doctor --systemd-unit | sudo tee /etc/systemd/system/edge-run@.service
  edge-doctor --systemd-conf | sudo install -D -m 0600 /dev/stdin /etc/edge-runtime/gate.conf
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments), is_debug=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-doctor", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bundle", type=Path, default=Path(os.environ.get("EDGE_BUNDLE", "bundle")), help="default: $EDGE_BUNDLE, else ./bundle"
    )
    parser.add_argument("--timeout-s", type=float, default=20.0, metavar="S", help="how long a library or tool may take (default: 20)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="one JSON document instead of text")
    what.add_argument("--systemd-unit", action="store_true", help="print edge-run@.service for this installation, and examine nothing")
    what.add_argument("--systemd-conf", action="store_true", help="print an example of a camera's configuration, and examine nothing")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.systemd_unit or arguments.systemd_conf:
        from edge_runtime.deploy import example_configuration, systemd_unit

        print(systemd_unit() if arguments.systemd_unit else example_configuration(), end="")
        return 0
    import json

    from edge_runtime.doctor import Machine, as_json, as_text, can_run, examine
    from edge_runtime.errors import ConfigError

    if not 0 < arguments.timeout_s <= LONGEST_TIMEOUT_S:
        raise ConfigError(f"--timeout-s: expected seconds above 0, at most {LONGEST_TIMEOUT_S}, got {arguments.timeout_s:g}. Leave it out.")
    findings = examine(Machine(timeout_s=arguments.timeout_s), arguments.bundle)
    print(json.dumps(as_json(findings), indent=2) if arguments.json else as_text(findings))
    return 0 if can_run(findings) else EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
