"""Measure time, peak memory and size of `dfens report` for several numbers of models and rows; print a Markdown table.

    python benchmarks/report.py [--case 5x5000 --case 50x500000] [--browser]

Each case runs in its own process. Panels and page are made from generated predictions, folds and a ledger of 20
submissions, as `dfens report` does after reading the stores; reading a prediction store from disk is timed separately
(`read`). CPU seconds are those of reading, panels and page on all cores; wall-clock times depend on what else the
machine does. With --browser, headless Chromium opens the page, and the milliseconds until it is interactive are
measured.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from dfens.report.images import RowView
from dfens.report.inputs import BlendInput, ModelInput, ReportInputs
from dfens.report.page import render_page
from dfens.report.report import build_report
from ensemble.fit import fit_blend
from ensemble.summary import BlendSummary, MemberScore
from oof.folds import Folds
from oof.metrics import metric_by_name, roc_auc
from oof.store import PredictionStore
from submissions.entry import Entry
from trainers.media.thumbnail import thumbnail

_CASES = [f"{models}x{rows}" for models in (5, 50, 200) for rows in (5_000, 150_000, 500_000)]
_TESTS = 0.3  # test rows per training row


def make_store(folder: Path, models: int, rows: int, rng: np.random.Generator) -> PredictionStore:
    """Write folds and predictions of generated models, equally good and with partly shared errors."""
    store = PredictionStore(folder)
    target = (rng.random(rows) < 0.6).astype(np.int8)
    ids = np.array([f"{row:07d}.jpg" for row in range(rows)], object)
    store.save_folds(Folds(ids, target, (np.arange(rows) % 5).astype(np.int16), None, {"k": 5}))
    tests = int(_TESTS * rows)
    store.save_test_ids(np.array([f"t{row:07d}.jpg" for row in range(tests)], object))
    shared, unseen = rng.normal(size=rows), rng.normal(size=tests)
    truth = np.where(rng.random(tests) < 0.6, 1, -1)
    for number in range(models):
        skill = 1.2 + 0.5 * rng.random()
        oof = skill * (2 * target - 1) + 0.7 * shared + rng.normal(size=rows)
        test = skill * truth + 0.7 * unseen + rng.normal(size=tests)
        store.save(f"model-{number:03d}", ids, 1 / (1 + np.exp(-oof)), 1 / (1 + np.exp(-test)))
    return store


def read_inputs(store: PredictionStore) -> ReportInputs:
    """Read the store; add a blend (the plain mean above 20,000 rows) and a ledger."""
    folds, now = store.folds, datetime.now(UTC)
    models = []
    for name in store.names():
        found = store.load(name)
        models.append(ModelInput(name, "timm", found.oof, found.test_by_fold))
    mean = np.asarray(np.mean([model.oof for model in models], axis=0, dtype=np.float64), np.float64)
    share, auc = 1 / len(models), roc_auc(folds.target, mean)
    facts = BlendSummary(
        "auc", "mean of probabilities", "prob", auc, auc, (auc - 0.01, auc + 0.01),
        tuple(MemberScore(model.name, share, 0.9, (share,) * 5) for model in models), (), (), {}, None, "", (),
    ).to_json()  # fmt: skip
    if len(mean) * len(models) <= 100_000:
        table = np.stack([model.oof for model in models], axis=1)
        facts = fit_blend(
            table, folds.target, folds=folds.fold, names=[model.name for model in models]
        ).summary.to_json()
    when = [now - timedelta(days=20 - number) for number in range(20)]
    entries = [
        Entry(key=f"{number:032d}", created=day, updated=day, submitted=day, competition="bench", status="complete",
              ref=number, nested_score=0.9 + number / 500, public_score=0.88 + number / 500)
        for number, day in enumerate(when)
    ]  # fmt: skip
    return ReportInputs(
        "bench", metric_by_name("auc"), now, folds.ids, folds.target, folds.fold, None, {"k": 5}, len(store.test_ids),
        models, [BlendInput("blend", facts, mean, mean)], entries, "dfens submit blend",
    )  # fmt: skip


def run_case(models: int, rows: int, browser: bool) -> dict[str, float]:
    """Measure one case in this process."""
    rng = np.random.default_rng(0)
    picture = cv2.imencode(".jpg", cv2.GaussianBlur(rng.integers(0, 255, (320, 320, 3), np.uint8), (0, 0), 3))[1]

    def view() -> RowView:
        image = cv2.imdecode(picture, cv2.IMREAD_COLOR)
        assert image is not None
        return RowView(thumbnail(np.asarray(image, np.uint8), 112), thumbnail(np.asarray(image, np.uint8), 320))

    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder), models, rows, rng)
        started, cpu = time.perf_counter(), time.process_time()
        inputs = read_inputs(PredictionStore(folder))
        read = time.perf_counter()
        report = build_report(
            inputs,
            find_views=lambda ids: dict.fromkeys(ids, view),
        )
        built = time.perf_counter()
        page = render_page(report)
        done = time.perf_counter()
        path = Path(folder, "report.html")
        path.write_text(page)
        return {
            "read": read - started,
            "panels": built - read,
            "page": done - built,
            "cpu": time.process_time() - cpu,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "mb": len(page.encode()) / 1e6,
            "interactive": interactive_ms(path) if browser else float("nan"),
        }


def interactive_ms(page: Path) -> float:
    """Return milliseconds from the start of navigation until the page is interactive, in headless Chromium."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking".split():
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        script = "const t = performance.getEntriesByType('navigation')[0]; return t.domInteractive - t.startTime"
        return float(driver.execute_script(script))
    finally:
        driver.quit()


def main() -> None:
    """Run each case in its own process and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", action="append", metavar="MODELSxROWS")
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        models, rows = map(int, options.one.split("x"))
        print(json.dumps(run_case(models, rows, options.browser)))
        return
    print("| models x rows | read, s | panels, s | page, s | CPU, s | peak memory, MiB | page, MB | interactive, ms |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for case in options.case or _CASES:
        command = [sys.executable, __file__, "--one", case, *(["--browser"] if options.browser else [])]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"| {case} | {found['read']:.1f} | {found['panels']:.1f} | {found['page']:.1f} | {found['cpu']:.1f} "
            f"| {found['mib']:,.0f} | {found['mb']:.2f} | {found['interactive']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
