"""Select the two final submissions: the pair with the best expected best-of-two private score, by simulation.

Model
-----
OOF predictions are taken as representative of each candidate's behaviour on new rows. With mu the OOF scores,

    public score  = mu + offset + sqrt(1 + shift_variance) x population + public part
    private score = mu + offset + sqrt(1 + shift_variance) x population + private part

on the logit scale for AUC and similar metrics (`submissions.finals.simulate.Scale`). The last three terms
are simulated by `submissions.finals.simulate`: the variation of the scores over other training
rows, and over parts of the size of the test set. Their covariances reflect the similarity of candidates. The
offset (a harder test set) is common to all candidates and has a wide prior, so it decides nothing.
shift_variance is the additional variance of the test rows compared with another draw of training rows;
it is unknown, so a grid of values is weighted by how well each explains the observed public scores:
if public scores follow CV, shift_variance is small and CV dominates; if not, the public scores do.

Conditioning on the public scores
---------------------------------
Each draw is shifted by Matheron's rule, private + C_vp C_pp^-1 (observed - public), which turns joint draws
into draws from the conditional distribution, exactly if they are jointly normal. Scores are means
over hundreds of rows, so this nearly holds, and the draws retain their skewness. Weighting
draws by a kernel around the observed scores (ABC) would not need normality, but with ten scores of
five digits not one draw in a million is close. Kaggle's rounding enters C_pp as a variance.

For scores that depend on the share of positives (log loss, accuracy), draws are made with several
shares, weighted in the same way; the share that best explains the public scores is reported with the pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Matrix, Vector
from oof.errors import SubmissionError, examples
from oof.metrics import METRICS, Metric
from oof.progress import SILENT, Progress
from submissions.finals.simulate import LabelledRows, Scale, Scenario, SplitSizes, scale_of, simulate

SHIFT_VARIANCES = np.array([0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0])
_SHIFT_PRIOR = 1 / np.sqrt(1 + SHIFT_VARIANCES)
_ODDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_PRECISION = 1e-14  # smallest ratio of two variances that a solution of linear equations in float64 resolves
_BLOCKS = 10  # blocks of the jackknife


@dataclass(frozen=True, eq=False)
class Candidate:
    """A submission that may be selected.

    name: name to display. oof: (n_rows,) its OOF predictions (for a blend, its nested predictions).
    public: its public score, or None.
    """

    name: str
    oof: NDArray[Any]
    public: float | None = None


@dataclass(frozen=True)
class CandidateOutlook:
    """Simulation results for one candidate: expectation and standard deviation of its private score."""

    name: str
    cv: float
    public: float | None
    private: float
    private_deviation: float
    best_share: float


@dataclass(frozen=True)
class PairOutlook:
    """Simulation results for two candidates.

    expected: best-of-two private score. gain: gain over the pair "best public + best CV"; positive is better,
    also for losses. beats: probability that this pair is better than that one; even: that both are
    equal. error, gain_error: standard errors due to the simulation alone.
    """

    first: str
    second: str
    expected: float
    error: float
    gain: float
    gain_error: float
    beats: float
    even: float


@dataclass(frozen=True)
class Selection:
    """The recommendation and its basis.

    pairs: best first. baseline: "best public + best CV". shift_variance: its weighted mean.
    shift_weights: value -> weight. positive_share: share among the test rows, inferred from the public scores.
    """

    pairs: tuple[PairOutlook, ...]
    baseline: tuple[str, str]
    candidates: tuple[CandidateOutlook, ...]
    shift_variance: float
    shift_weights: dict[float, float]
    positive_share: float
    draws: int

    @property
    def best(self) -> PairOutlook:
        """Return the recommended pair."""
        return self.pairs[0]


@dataclass(frozen=True, eq=False)
class Noise:
    """Random numbers of each draw apart from its rows, drawn once so that subsets of the draws are consistent.

    rounding: (draws, n_candidates) rounding error of the public scores. offset: (draws,) standard normal, common to
    all candidates. place: (draws,) in [0, 1), which determines the scenario and shift_variance of a draw.
    """

    rounding: Matrix
    offset: Vector
    place: Vector

    def only(self, draws: NDArray[np.bool_]) -> "Noise":
        """Return a subset of the draws."""
        return Noise(self.rounding[draws], self.offset[draws], self.place[draws])


def draw_noise(draws: int, candidates: int, digits: int, rng: np.random.Generator) -> Noise:
    """Return the noise of `draws` draws; `place` fills [0, 1) evenly over any consecutive draws."""
    rounding = 10.0**-digits * rng.uniform(-0.5, 0.5, (draws, candidates))
    place = np.asarray(np.arange(draws) * 0.6180339887498949 % 1.0, dtype=np.float64)
    return Noise(rounding, rng.standard_normal(draws), place)


@dataclass(frozen=True)
class LeaderboardSplit:
    """The split of the test set by the leaderboard.

    rows: number of rows. public_share: share of them in the public part, 0 to 1. positive_share: share of positives;
    None: as in training, or, if the metric depends on it, inferred from the public scores. digits: decimals of public
    scores.
    """

    rows: int
    public_share: float
    positive_share: float | None = None
    digits: int = 5

    def sizes(self, positive_share: float) -> SplitSizes:
        """Return the sizes of the parts; raise SubmissionError if one is too small to be scored."""
        public_rows = round(self.rows * self.public_share)
        if not 10 <= public_rows <= self.rows - 10:
            remedy = "Give the share on the competition's leaderboard page with --public-share."
            if self.rows < 20:
                remedy = "With so few rows, no pair can be recommended: choose the best by CV."
            raise SubmissionError(
                f"A public share of {self.public_share:.3g} leaves {public_rows} of {self.rows} test rows public; "
                f"expected at least 10 in each part. {remedy}"
            )
        return SplitSizes(public_rows, self.rows - public_rows, positive_share)

    def positive_shares(self, in_training: float, metric: Metric) -> list[float]:
        """Return the shares of positives to simulate."""
        if self.positive_share is not None:
            return [self.positive_share]
        if not metric.depends_on_prevalence:
            return [in_training]
        odds = in_training / (1 - in_training)
        return [in_training if factor == 1 else odds * factor / (1 + odds * factor) for factor in _ODDS]


def select_pair(
    candidates: Sequence[Candidate],
    rows: LabelledRows,
    split: LeaderboardSplit,
    *,
    metric: Metric = METRICS["auc"],
    draws: int = 1000,
    rng: np.random.Generator,
    progress: Progress = SILENT,
) -> Selection:
    """Rank all pairs of candidates by their expected best-of-two private score.

    Args:
        candidates: at least two.
        rows: rows of the candidates' OOF predictions.
        split: split of the competition's test set.
        metric: metric of the competition.
        draws: number of simulated draws.
        rng: random number generator.

    Raises:
        SubmissionError: if there are fewer than two candidates, equal names, NaN, or no public rows.
    """
    names = [candidate.name for candidate in candidates]
    if len(names) < 2 or len(set(names)) < len(names):
        raise SubmissionError(
            f"Choosing a pair needs at least two candidates with different names; there are "
            f"{examples(names) or 'none'}. Submit more blends, or run dfens submissions sync."
        )
    shares = split.positive_shares(float(np.mean(rows.y)), metric)
    sizes = [split.sizes(share) for share in shares]
    columns = [np.asarray(candidate.oof) for candidate in candidates]
    incomplete = [name for name, column in zip(names, columns, strict=True) if np.isnan(column).any()]
    if incomplete:
        raise SubmissionError(
            f"OOF predictions with NaN: {examples(incomplete)}. Pass only rows that all candidates predict."
        )
    scenarios = [simulate(rows, columns, size, metric, draws=draws, rng=rng, progress=progress) for size in sizes]
    scale = scale_of(metric)
    public = np.array([np.nan if c.public is None else c.public for c in candidates], dtype=np.float64)
    cv = np.array([metric(rows.y, column) for column in columns])
    step = np.where(np.isfinite(public), scale.slope(public), 0.0)
    noise = draw_noise(draws, len(names), split.digits, rng)
    noise = Noise(noise.rounding * step, noise.offset, noise.place)
    return _summarize(scenarios, names, cv, public, noise, scale)


def _summarize(
    scenarios: list[Scenario], names: list[str], cv: Vector, public: Vector, noise: Noise, scale: Scale
) -> Selection:
    seen, sign = scale.forward(public), scale.sign
    drawn, weights = posterior_private(scenarios, seen, noise)
    private = sign * scale.back(drawn)  # in the metric's unit, higher is better
    pairs = list(combinations(range(len(names)), 2))
    baseline = baseline_pair(sign * cv, sign * public)
    expected, gains = _pair_means(private, pairs, baseline)
    # delete one block of draws at a time, which accounts for the draws and for covariances and weights computed from
    # them
    blocks = np.arange(len(private)) % _BLOCKS
    left_out = []
    for block in range(_BLOCKS):
        kept = blocks != block
        part, _ = posterior_private([scenario.only(kept) for scenario in scenarios], seen, noise.only(kept))
        left_out.append(_pair_means(sign * scale.back(part), pairs, baseline))
    errors = np.sqrt((_BLOCKS - 1) * np.var(np.array(left_out), axis=0))
    base = private[:, list(baseline)].max(axis=1)
    outlooks = []
    for place in np.argsort(-expected, kind="stable"):
        best = private[:, list(pairs[place])].max(axis=1)
        first, second = sorted(pairs[place], key=lambda candidate: -private[:, candidate].mean())
        outlooks.append(
            PairOutlook(
                first=names[first],
                second=names[second],
                expected=sign * float(expected[place]),
                error=float(errors[0, place]),
                gain=float(gains[place]),
                gain_error=float(errors[1, place]),
                beats=float((best > base).mean()),
                even=float((best == base).mean()),
            )
        )
    by_shift = weights.sum(axis=0)
    return Selection(
        pairs=tuple(outlooks),
        baseline=(names[baseline[0]], names[baseline[1]]),
        candidates=_candidate_outlooks(names, cv, public, private, sign),
        shift_variance=float(by_shift @ SHIFT_VARIANCES),
        shift_weights=dict(zip(SHIFT_VARIANCES.tolist(), by_shift.tolist(), strict=True)),
        positive_share=float(weights.sum(axis=1) @ [scenario.positive_share for scenario in scenarios]),
        draws=len(private),
    )


def _candidate_outlooks(
    names: list[str], cv: Vector, public: Vector, private: Matrix, sign: float
) -> tuple[CandidateOutlook, ...]:
    winners = np.bincount(private.argmax(axis=1), minlength=len(names)) / len(private)
    return tuple(
        CandidateOutlook(
            name=name,
            cv=float(cv[place]),
            public=None if np.isnan(public[place]) else float(public[place]),
            private=sign * float(private[:, place].mean()),
            private_deviation=float(private[:, place].std()),
            best_share=float(winners[place]),
        )
        for place, name in enumerate(names)
    )


def baseline_pair(cv: Vector, seen: Vector) -> tuple[int, int]:
    """Return the candidates with the best public score and the best CV, or with the two best CVs if these coincide."""
    by_cv = np.argsort(-cv, kind="stable")
    first = int(by_cv[0]) if np.isnan(seen).all() else int(np.nanargmax(seen))
    return first, int(by_cv[1] if by_cv[0] == first else by_cv[0])


def posterior_private(scenarios: list[Scenario], seen: Vector, noise: Noise) -> tuple[Matrix, Matrix]:
    """Return draws of the private scores given the public ones, and the weights of scenarios and shift variances.

    Args:
        scenarios: scenarios with the same candidates and number of draws.
        seen: (n_candidates,) public scores on their scale, NaN if unknown.
        noise: noise of the same draws.

    Returns:
        (draws, n_candidates) and (n_scenarios, n_shift_variances); the weights sum to 1.
    """
    known = np.flatnonzero(np.isfinite(seen))
    covariances = [(np.atleast_2d(np.cov(x.population.T)), np.atleast_2d(np.cov(x.public.T))) for x in scenarios]
    # an offset ten times as wide as the widest other term is uninformative; if several shares compete, it
    # must not absorb their signal, most of which is common to all candidates too
    width = 0.0 if not len(known) else 2.0 if len(scenarios) > 1 else 10.0

    def offset_variance(common: Matrix, public: Matrix, shift_variance: float) -> float:
        return width**2 * float(np.diag(common * (1 + shift_variance) + public).max())

    # candidates of the same order, such as a blend before and after calibration, differ by their rounding alone, which
    # must not vanish in the precision of the widest term
    widest = max(offset_variance(common, public, SHIFT_VARIANCES[-1]) for common, public in covariances)
    rounding = np.maximum(noise.rounding.var(axis=0), _PRECISION * len(known) * widest)
    evidence = np.zeros((len(scenarios), len(SHIFT_VARIANCES)))
    moved = np.empty((*evidence.shape, *noise.rounding.shape))
    for place, (scenario, (common, public)) in enumerate(zip(scenarios, covariances, strict=True)):
        for step, shift_variance in enumerate(SHIFT_VARIANCES):
            offset = offset_variance(common, public, shift_variance)
            shared = offset + (1 + shift_variance) * common
            base = (
                scenario.scores
                + np.sqrt(offset) * noise.offset[:, None]
                + np.sqrt(1 + shift_variance) * scenario.population
            )
            moved[place, step] = base + scenario.private
            if not len(known):
                continue
            covariance = (shared + public)[np.ix_(known, known)] + np.diag(rounding[known])
            surprise = seen[known] - (base + scenario.public + noise.rounding)[:, known]
            moved[place, step] += surprise @ np.linalg.solve(covariance, shared[known])
            evidence[place, step] = _log_normal(seen[known] - scenario.scores[known], covariance)
    weights = np.exp(evidence - evidence.max()) * _SHIFT_PRIOR
    weights /= weights.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), noise.place, side="right"), weights.size - 1)
    private: Matrix = moved.reshape(weights.size, *noise.rounding.shape)[chosen, np.arange(len(chosen))]
    return private, weights


def _log_normal(deviation: Vector, covariance: Matrix) -> float:
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(-0.5 * (log_determinant + deviation @ np.linalg.solve(covariance, deviation)))


def _pair_means(private: Matrix, pairs: list[tuple[int, int]], baseline: tuple[int, int]) -> tuple[Vector, Vector]:
    """Return the expected best-of-two score of each pair, and its gain over the baseline."""
    best = np.array([np.maximum(private[:, first], private[:, second]).mean() for first, second in pairs])
    base = float(np.maximum(private[:, baseline[0]], private[:, baseline[1]]).mean())
    return best, best - base
