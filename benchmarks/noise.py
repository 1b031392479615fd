"""Count significant differences between a default blend and simpler blends if no model knows anything.

    OMP_NUM_THREADS=1 python benchmarks/noise.py [--sets 100] [--rows 300]

Half of the sets have 5 models, half 15; predictions and labels are independent. Each true AUC is 0.5, so each
significant difference is wrong, and an interval should contain 0.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from measure import show

from ensemble.fit import fit_blend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    found: dict[str, list[tuple[bool, bool, bool]]] = {}
    nested = []
    for seed in range(options.sets):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(options.rows) % 2
        result = fit_blend(rng.random((options.rows, (5, 15)[seed % 2])), labels)
        nested.append(result.nested_score)
        for one in result.comparisons:
            low, high = one.interval
            clear = one.p_value < 0.05
            found.setdefault(one.other, []).append((clear and one.gain > 0, clear and one.gain < 0, low <= 0 <= high))
    print(f"{options.sets} sets of {options.rows} rows; mean nested AUC {np.mean(nested):.4f}.")
    show(
        ["compared with", "significantly better", "significantly worse", "interval contains 0"],
        [(name, *(f"{share:.0%}" for share in np.mean(values, axis=0))) for name, values in found.items()],
    )


if __name__ == "__main__":
    main()
