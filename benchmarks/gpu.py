"""Run everything that needs a CUDA device: the tests marked `gpu`, then the benchmarks of the trainers.

    python3 benchmarks/gpu.py [--out build/gpu.md] [--wheels DIR] [--minutes 9] [--only tests,train]

The results are written to one Markdown file. Runs from a checkout, without installation, in any Python environment with
the packages that docs/training.md names; nothing is downloaded. Missing ones are taken from --wheels, a folder of
wheels. Each
section runs in its own process with a time limit; if one fails or times out, this is reported in the file, and the
others still run.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
MODELS = ("resnet50", "convnext_tiny", "efficientnet_b4")
# Seconds for each section, within 9 minutes; what a section leaves is shared by the later ones. The benchmarks end by
# themselves before their limit, and report what they left out; the tests are ended at theirs.
LIMITS = {"tests": 250, "train": 130, "predict": 45, "loader": 35, "precision": 65}
_AROUND_S = 15  # to unpack wheels and to describe the machine
_TO_END_S = 15  # grace period for a benchmark to end by itself


@dataclass(frozen=True)
class Section:
    """One command: its title in the file, arguments to Python, and time limit in seconds."""

    name: str
    arguments: tuple[str, ...]


def sections(folder: Path, workers: int) -> list[Section]:
    """Return the sections in order of importance."""
    cuda = ("--device", "cuda", "--workers", str(workers))
    pictures = ("--folder", str(folder))
    # only files with such tests: others may need packages that are missing on such a machine
    texts = {str(path): path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    files = [path for path, text in texts.items() if "mark.gpu" in text or "DEVICES" in text]
    files.sort(key=lambda path: "import subprocess" in texts[path])  # tests that start processes are slow
    # one line per finished test, so that a stopped run shows its progress
    tests = ["-m", "pytest", *files, *"-m gpu -v -n 0 -p no:cacheprovider --tb short".split()]
    tests += "--timeout 150 --durations 8".split()
    train = [*"--size 256 --batch 64 --steps 96 --repeats 2 --only".split(), "dfens from files", "dfens from the cache"]
    predict = "--size 256 --images 16 --repeats 2".split()

    def benchmark(name: str, *options: str) -> tuple[str, ...]:
        return (str(HERE / f"{name}.py"), *options, *cuda)

    return [
        Section("tests", tuple(tests)),
        Section("train", benchmark("train", *pictures, "--model", *MODELS, *train)),
        Section("predict", benchmark("predict", *pictures, "--model", *MODELS, *predict)),
        Section("loader", benchmark("loader", *pictures, *"--image-size 256 --images 512 --repeats 2".split())),
        Section("precision", benchmark("precision", "--epochs", "7")),
    ]


def with_limit(section: Section, limit: float) -> Section:
    """Return a benchmark that ends by itself within a limit in seconds; the tests do not."""
    if section.name == "tests":
        return section
    return Section(section.name, (*section.arguments, "--seconds", f"{limit - _TO_END_S:.0f}"))


def install(wheels: Path, site: Path) -> None:
    """Unpack wheels into a separate folder, without access to a package index."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(site), *map(str, sorted(wheels.glob("*.whl")))], check=True)


def run(section: Section, limit: float, environment: dict[str, str]) -> tuple[str, str]:
    """Run a section; return its outcome and its output."""
    started = time.monotonic()
    log = subprocess.Popen(
        [sys.executable, *section.arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        printed, _ = log.communicate(timeout=limit)
        end = "passed" if log.returncode == 0 else f"failed with exit code {log.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(log.pid, 9)
        printed, _ = log.communicate()
        end = f"stopped at its limit of {limit:.0f} s"
    return f"{end}, {time.monotonic() - started:.0f} s", printed


def facts() -> str:
    """Describe the machine and its driver in Markdown lines."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
    try:
        card = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as err:
        card = f"nvidia-smi failed: {err}"
    import torch

    return (
        f"- device: {card}\n- {os.cpu_count()} CPU cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}\n"  # type: ignore[no-untyped-call]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu.md")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of missing packages")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 2))
    parser.add_argument("--only", default=",".join(LIMITS), help="sections, separated by commas")
    options = parser.parse_args()
    started, failed = time.monotonic(), False
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = [str(ROOT)]
        if options.wheels is not None:
            install(options.wheels, folder / "site")
            paths.append(str(folder / "site"))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        text = f"# dfens on a CUDA device\n\n{facts()}"
        chosen = [one for one in sections(folder / "pictures", options.workers) if one.name in options.only.split(",")]
        for place, section in enumerate(chosen):
            left = 60 * options.minutes - (time.monotonic() - started)
            limit = left * LIMITS[section.name] / sum(LIMITS[later.name] for later in chosen[place:])
            end, printed = "left out: no time left", ""
            if limit > 2 * _TO_END_S:
                end, printed = run(with_limit(section, limit), limit, environment)
            failed |= not end.startswith("passed")
            block = f"```\n{printed}\n```" if section.name == "tests" else printed
            text += f"\n## {section.name}: {end}\n\n{block}\n"
            options.out.write_text(text)  # after each section, so that a kill loses only one
            print(f"{section.name}: {end}", flush=True)
    print(f"{options.out}: {time.monotonic() - started:.0f} s in all")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
