"""`python -m dfens` and the console script `dfens`."""

import gc
import sys

from dfens.cli import cli
from dfens.streams import make_streams_lenient, report_lost_output
from oof.cpus import wait_passively


def main() -> None:
    """Run the command line."""
    gc.set_threshold(50_000, 20, 20)  # looking for garbage every 700 objects takes a fifth of the time to load torch
    stdout, _ = make_streams_lenient()
    try:
        wait_passively()  # before any command loads a numeric library
        cli(prog_name="dfens")
    finally:
        sys.stdout.flush()
        report_lost_output(stdout)
        sys.stderr.flush()


if __name__ == "__main__":
    main()
