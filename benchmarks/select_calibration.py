"""Measure the calibration of `dfens submissions select` on generated candidates with known private scores.

Each scenario has candidates of different skill that share a common noise (hard rows), training rows with OOF
predictions, and a test set with a public and a private part. In a shifted scenario each candidate loses a random part
of its skill on the test rows, which affects the public score but not CV. For each rule that chooses two candidates, two
figures are reported: how often they include the candidate with the best private score (so that no pair is better), and
the mean regret (the best private score of all candidates minus that of the chosen two), in AUC x 10,000.

    OMP_NUM_THREADS=1 python benchmarks/select_calibration.py --scenarios 200
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oof.metrics import roc_auc
from submissions.finals.select import Candidate, LeaderboardSplit, select_pair
from submissions.finals.simulate import LabelledRows

RULES = ("select", "best public + best CV", "best public twice", "best CV twice")


@dataclass(frozen=True)
class Setting:
    """One line of the table. shift: standard deviation of the skill lost on test rows. Sizes are numbers of rows."""

    name: str
    shift: float
    train_rows: int = 4000
    test_rows: int = 4000
    public_share: float = 0.3
    candidates: int = 12
    positive_share: float = 0.3
    group_size: int = 1


SETTINGS = (
    Setting("no shift", 0.0),
    Setting("no shift, small public part", 0.0, public_share=0.1),
    Setting("some shift", 0.05),
    Setting("strong shift", 0.2),
    Setting("strong shift, small public part", 0.2, public_share=0.1),
    Setting("few training rows", 0.0, train_rows=800),
    Setting("groups of 8 rows, some shift", 0.05, group_size=8),
)


def make_rows(
    rows: int, skill: NDArray[np.float64], mixing: NDArray[np.float64], setting: Setting, rng: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int64]]:
    """Generate labels, scores (rows, candidates) and groups.

    A score is skill x label + noise shared by all, by the group and by similar candidates + own noise.
    """
    groups = np.arange(rows) // setting.group_size
    y = (rng.random(groups[-1] + 1) < setting.positive_share).astype(np.int8)[groups]
    hard = rng.normal(size=(rows, 1)) + (
        0.7 * rng.normal(size=(groups[-1] + 1, 1))[groups] if groups[-1] + 1 < rows else 0
    )
    kin = rng.normal(size=(rows, mixing.shape[0])) @ mixing
    own = rng.normal(size=(rows, len(skill)))
    scores = (y[:, None] - 0.5) * skill + 0.8 * hard + 0.5 * kin + 0.5 * own
    return y, scores.astype(np.float32), groups


def one_scenario(setting: Setting, draws: int, seed: int) -> dict[str, tuple[float, bool, bool]]:
    """Return regret, whether the best candidate was chosen, and whether `select` claimed and won over the baseline."""
    rng = np.random.default_rng(seed)
    skill = 3.0 + 0.06 * rng.normal(size=setting.candidates)
    mixing = rng.dirichlet(np.ones(3), setting.candidates).T
    lost = setting.shift * np.abs(rng.normal(size=setting.candidates))
    y, oof, groups = make_rows(setting.train_rows, skill, mixing, setting, rng)
    test_y, test, test_groups = make_rows(setting.test_rows, skill - lost, mixing, setting, rng)
    public_groups = rng.random(test_groups[-1] + 1) < setting.public_share
    public_part = public_groups[test_groups]
    columns = range(setting.candidates)
    cv = np.array([roc_auc(y, oof[:, column]) for column in columns])
    public = np.array([round(roc_auc(test_y[public_part], test[public_part, column]), 5) for column in columns])
    private = np.array([roc_auc(test_y[~public_part], test[~public_part, column]) for column in columns])
    found = select_pair(
        [Candidate(str(column), oof[:, column], float(public[column])) for column in columns],
        LabelledRows(y, groups if setting.group_size > 1 else None),
        LeaderboardSplit(setting.test_rows, setting.public_share),
        draws=draws,
        rng=rng,
    )
    by_cv, by_public = np.argsort(-cv, kind="stable"), np.argsort(-public, kind="stable")
    pairs = {
        "select": (int(found.best.first), int(found.best.second)),
        "best public + best CV": (int(found.baseline[0]), int(found.baseline[1])),
        "best public twice": (int(by_public[0]), int(by_public[1])),
        "best CV twice": (int(by_cv[0]), int(by_cv[1])),
    }
    best = {rule: float(private[list(pair)].max()) for rule, pair in pairs.items()}
    result: dict[str, tuple[float, bool, bool]] = {}
    for rule in RULES:
        result[rule] = (float(private.max()) - best[rule], best[rule] == private.max(), False)
    base = best["best public + best CV"]
    claimed = found.best.beats / max(1 - found.best.even, 1e-12) if found.best.even < 1 else float("nan")
    result["claim"] = (claimed, best["select"] > base, best["select"] != base)
    expected = {pair_key(pair.first, pair.second): pair.expected for pair in found.pairs}
    chosen = expected[pair_key(*map(str, pairs["select"]))]
    result["bias"] = (best["select"] - chosen, False, False)
    return result


def pair_key(first: str, second: str) -> frozenset[str]:
    return frozenset((first, second))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=200, help="number for each setting")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    claims: list[tuple[float, bool, bool]] = []
    print(f"{options.scenarios} scenarios each, {options.draws} draws\n")
    print("| setting | rule | best included | mean regret, AUC x 1e4 | better / worse than public + CV |")
    print("|---|---|---|---|---|")
    started = time.perf_counter()
    for number, setting in enumerate(SETTINGS):
        seeds = np.random.SeedSequence([options.seed, number]).generate_state(options.scenarios)
        scenarios = [one_scenario(setting, options.draws, int(seed)) for seed in seeds]
        claims += [scenario["claim"] for scenario in scenarios]
        base = np.array([scenario["best public + best CV"][0] for scenario in scenarios])
        for rule in RULES:
            regret = np.array([scenario[rule][0] for scenario in scenarios])
            hit = np.mean([scenario[rule][1] for scenario in scenarios])
            error = regret.std(ddof=1) / np.sqrt(len(regret))
            better, worse = int((regret < base).sum()), int((regret > base).sum())
            print(
                f"| {setting.name if rule == RULES[0] else ''} | {rule} | {hit:.0%} | {1e4 * regret.mean():.2f} "
                f"+- {1e4 * error:.2f} | {better} / {worse} |"
            )
    print("\nClaimed probability of beating 'best public + best CV' (where the two differ), and how often it did:\n")
    print("| claimed | scenarios | mean claim | beat it |\n|---|---|---|---|")
    told = np.array([(claim, won) for claim, won, differs in claims if differs and np.isfinite(claim)])
    for low, high in ((0, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.001)):
        inside = told[(told[:, 0] >= low) & (told[:, 0] < high)] if len(told) else told
        if len(inside):
            claim, won = inside.mean(axis=0)
            print(f"| {low:.1f} to {min(high, 1):.1f} | {len(inside)} | {claim:.2f} | {won:.2f} |")
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
