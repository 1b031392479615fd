"""The moment of each clip that contributed most to its prediction, for people to look at or listen to first."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.arrays import Matrix
from oof.errors import StoreError
from oof.files import read_parquet, write_parquet
from trainers.kinds.clips.moments import AnyClipSettings, spread_places

DECIDING_FILE = "deciding.parquet"
_HEADER = {"version": 1, "kind": "deciding moments"}


def moment_places(settings: AnyClipSettings) -> NDArray[np.float64]:
    """Return the positions in a clip, 0 to 1, of the moments of a prediction with TTA, in the order of its columns."""
    mirrored = settings.views // settings.time_views  # a mirrored view follows the view that it mirrors
    places = [spread_places(settings.moments, view, settings.time_views) for view in range(settings.time_views)]
    return np.concatenate([own for own in places for _ in range(mirrored)])


def deciding_moments(probabilities: Matrix, weight: Matrix, prediction: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return for each clip the moment that supports the predicted class most.

    Args:
        probabilities, weight: (n_clips, moments) probability of fake, and weight of each moment; 0 if there is none.
        prediction: (n_clips,) probability of fake.

    >>> deciding_moments(np.array([[0.2, 0.9, 0.7]] * 2), np.array([[1, 0.5, 1]] * 2), np.array([0.6, 0.4]))
    array([1, 0])
    """
    side = np.where(prediction >= 0.5, 1.0, -1.0)[:, None]
    voice = side * (probabilities - 0.5) * weight
    return np.asarray(np.where(weight > 0, voice, -np.inf).argmax(axis=1))


def save_deciding(
    path: Path, ids: NDArray[np.object_], place: NDArray[np.float64], probability: NDArray[np.float64]
) -> None:
    """Write the deciding moments: columns id, place (0 to 1) and probability of fake at that moment."""
    table = pd.DataFrame({"id": ids, "place": place.astype(np.float32), "probability": probability.astype(np.float32)})
    write_parquet(path, table, _HEADER)


def read_deciding(path: Path) -> dict[str, tuple[float, float]]:
    """Return id -> (place, probability) of the clips of one fold; empty if the fold has no such file."""
    if not path.is_file():
        return {}
    table, _ = read_parquet(path, "id", "place", "probability")
    try:
        moments = zip(table["place"].astype(float), table["probability"].astype(float), strict=True)
        return dict(zip(table["id"].astype(str), moments, strict=True))
    except (TypeError, ValueError) as err:
        raise StoreError(f"{path} contains values that are not numbers: it was replaced by another file.") from err
