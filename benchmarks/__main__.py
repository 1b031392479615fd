"""Run benchmarks by name: `python -m benchmarks [NAME [OPTION …]]`; without a name, run those that need no data."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
HELPERS = {"__main__", "measure", "peers", "worlds"}
# data, options, or hours
NEEDS = {"intervals", "imdb", "growth", "blend", "calibration", "gpu", "methods", "precision"}
NEEDS |= {"busy", "pseudo", "repeats", "select_calibration"}


def main() -> None:
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in HELPERS)
    asked, options = sys.argv[1:2], sys.argv[2:]
    if asked and asked[0] not in names:
        sys.exit(f"Unknown benchmark {asked[0]!r}. Choose from {', '.join(names)}; each has --help.")
    if not asked:
        print(f"Benchmarks: {', '.join(names)}. Run only by name: {', '.join(sorted(NEEDS))}.")
    sys.path.insert(0, str(HERE))
    for name in asked or [name for name in names if name not in NEEDS]:
        print(f"\n## {name}\n", flush=True)
        sys.argv = [str(HERE / f"{name}.py"), *options]
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
