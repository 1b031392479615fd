"""Compare dfens's default blend with its peers: held-out AUC on generated worlds, or time and memory on a large set.

pip install --no-deps --target build/peers -r benchmarks/requirements.txt
OMP_NUM_THREADS=1 PYTHONPATH=build/peers:. python benchmarks/blend.py worlds --seeds 3
PYTHONPATH=build/peers:. python benchmarks/blend.py speed --rows 150000 --models 20 [--slow]
PYTHONPATH=build/peers:. python benchmarks/blend.py greedy
"""

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from peers import autogluon, dfens, installed
from worlds import WORLDS, World, draw, draw_from

from ensemble.fit import fit_blend
from ensemble.search import greedy_selection
from oof.cpus import cpu_count
from oof.metrics import roc_auc
from oof.metrics.intervals import difference

LARGE = World(
    positive_share=0.8, signal=3.2, own=1.0, family=0.6, distortion=1.0, noise_models=0.2, strength=(0.3, 1.0)
)


def one_world(job: tuple[str, int]) -> tuple[str, dict[str, tuple[float, str]]]:
    """Return the held-out AUC of dfens and of each peer, and whether dfens wins, ties or loses."""
    name, seed = job
    sample = draw(name, seed, test_rows=50_000, rows=min(WORLDS[name].rows, 20_000))
    ours = dfens(sample.oof, sample.y, sample.test)
    found = {"dfens": (roc_auc(sample.test_y, ours), "")}
    for peer, fit in installed(quick=True).items():
        scores = fit(sample.oof, sample.y, sample.test)
        gap = difference("auc", sample.test_y, ours, scores)
        outcome = "tie" if abs(gap.gain) <= 2 * gap.standard_error else "win" if gap.gain > 0 else "loss"
        found[peer] = (roc_auc(sample.test_y, scores), outcome)
    return name, found


def worlds(seeds: int, workers: int) -> None:
    jobs = [(name, seed) for seed in range(seeds) for name in WORLDS]
    rows: dict[str, list[dict[str, tuple[float, str]]]] = {}
    with ProcessPoolExecutor(workers) as pool:
        for name, found in pool.map(one_world, jobs):
            rows.setdefault(name, []).append(found)
    everything = [found for group in rows.values() for found in group]
    peers = [peer for peer in everything[0] if peer != "dfens"]
    print(f"{len(everything)} sets: {len(WORLDS)} worlds x {seeds} seeds; 50,000 held-out rows each.")
    print("Tie: the paired difference on the held-out rows is within two standard errors of 0.\n")
    print(
        "| dfens against | win | tie | loss | mean gain, 1e-5 AUC | worst, 1e-5 AUC |\n|---|---:|---:|---:|---:|---:|"
    )
    for peer in peers:
        outcomes = [found[peer][1] for found in everything]
        gains = np.array([found["dfens"][0] - found[peer][0] for found in everything]) * 1e5
        counts = " | ".join(str(outcomes.count(word)) for word in ("win", "tie", "loss"))
        print(f"| {peer} | {counts} | {gains.mean():+.1f} | {gains.min():+.1f} |")
    best = [max(found[peer][0] for peer in peers) for found in everything]
    gains = np.array([found["dfens"][0] for found in everything]) - np.array(best)
    print(f"| the best of all peers on each set | – | – | – | {gains.mean() * 1e5:+.1f} | {gains.min() * 1e5:+.1f} |\n")
    shown = ["dfens", *peers]
    print("| world, mean held-out AUC | " + " | ".join(shown) + " |\n|---|" + "---:|" * len(shown))
    for name, group in rows.items():
        means = {peer: float(np.mean([found[peer][0] for found in group])) for peer in shown}
        top = max(means.values())
        cells = [f"**{means[p]:.5f}**" if means[p] == top else f"{means[p]:.5f}" for p in shown]
        print(f"| {name} | " + " | ".join(cells) + " |")


def speed(rows: int, models: int, *, slow: bool, alone: bool) -> None:
    from dataclasses import replace

    sample = draw_from(replace(LARGE, rows=rows, models=models), "large", 0, test_rows=rows)
    fit_blend(sample.oof[:2000], sample.y[:2000])  # load compiled code before timing
    matrix = sample.oof.nbytes / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    result = fit_blend(sample.oof, sample.y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    held_out = roc_auc(sample.test_y, result.predict(sample.test))
    print(f"{rows} rows x {models} models, {matrix:.0f} MiB; on {cpu_count()} cores")
    print("| method | seconds | processor seconds | held-out AUC |\n|---|---:|---:|---:|")
    print(f"| dfens `fit_blend`, nested score {result.nested_score:.5f} | {wall:.2f} | {cpu:.2f} | {held_out:.5f} |")
    for name, fit in ({} if alone else installed(quick=False)).items():
        if name.startswith(("hillclimbers", "Nelder")) and not slow:
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        scores = fit(sample.oof, sample.y, sample.test)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {roc_auc(sample.test_y, scores):.5f} |", flush=True)
    print(f"\nAdditional peak memory of dfens's fit: {memory:.0f} MiB = {memory / matrix:.1f} x the matrix")


def greedy(rows: int, models: int, rounds: int) -> None:
    from dataclasses import replace

    sample = draw_from(replace(LARGE, rows=rows, models=models), "large", 0, test_rows=1000)
    order = np.argsort(sample.y, kind="stable")
    columns = np.ascontiguousarray(sample.oof[order].T)
    split = int((sample.y == 0).sum())
    greedy_selection(columns[:, :: max(1, rows // 2000)], -(-split // max(1, rows // 2000)), rounds=2)
    started = time.perf_counter()
    ours = greedy_selection(columns, split, rounds=rounds)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    theirs = autogluon(rounds)(sample.oof, sample.y, np.eye(models))
    peer_seconds = time.perf_counter() - started
    same = bool(np.allclose(ours.weights, theirs))
    print(f"greedy, {rounds} rounds, {rows} x {models}: dfens {seconds:.3f} s, AutoGluon {peer_seconds:.2f} s, ")
    print(f"ratio {peer_seconds / seconds:.0f}; same picks: {same} ({len(ours.picks)} picks)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["worlds", "speed", "greedy"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slow", action="store_true", help="include hillclimbers and Nelder-Mead (minutes)")
    parser.add_argument("--alone", action="store_true", help="leave out the peers")
    options = parser.parse_args()
    if options.what == "worlds":
        worlds(options.seeds, options.workers)
    elif options.what == "speed":
        speed(options.rows, options.models, slow=options.slow, alone=options.alone)
    else:
        greedy(options.rows, options.models, options.rounds)


if __name__ == "__main__":
    main()
