"""Features of a frozen backbone, used by `dfens groups` to cluster images; computed once and stored by id."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import StoreError, TrainingError
from oof.files import read_parquet, write_parquet
from oof.progress import SILENT, Progress
from trainers.media.settings import ImageSettings
from trainers.networks.settings import NetworkSettings

VERSION = 1
_BATCH = 32


def embeddings_path(work_dir: Path) -> Path:
    """Return the path of the features of a workspace."""
    return work_dir / "embeddings.parquet"


def embed_images(
    network: NetworkSettings,
    images: ImageSettings,
    paths: Sequence[str],
    *,
    root: Path = Path(),
    threads: int = 1,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Compute the features of images before the last layer of a pretrained backbone.

    Args:
        network: the backbone with its pretrained weights; nothing is trained. images: how images are read.
        paths: paths of the images.
        root: base of a relative path of weights.
        threads: number of decoding threads.
        progress: receives progress by image.

    Returns:
        Shape (n_images, n_features).

    Raises:
        TrainingError: if the backbone has no pretrained weights, or they are not available.
    """
    if network.pretrained is False:
        raise TrainingError(
            f"{network.backbone} has random weights (pretrained = false), whose features are meaningless. Choose "
            f"a model with pretrained = true, or with a weights file."
        )
    import torch

    from trainers.media.image import load_image
    from trainers.media.image_info import in_threads
    from trainers.networks.backbone import create_model
    from trainers.networks.normalise import grey_mean_and_std
    from trainers.runtime.device import default_device, set_up

    device = default_device()
    set_up(device)
    model = create_model(network, images.image_size, root)
    backbone: Any = getattr(model, "backbone", model)  # the stem for additional inputs is untrained
    backbone.reset_classifier(0)
    backbone.to(device).eval()
    mean, std = (value.to(device) for value in grey_mean_and_std(backbone))
    decode = partial(load_image, size=images.image_size, decode=images.host_decode)
    found = []
    with progress.task(f"features of {network.backbone}", total=len(paths), unit="image") as task:
        for start in range(0, len(paths), _BATCH):
            decoded = in_threads(decode, paths[start : start + _BATCH], threads, SILENT, "")
            batch = torch.from_numpy(np.stack(decoded)).to(device).permute(0, 3, 1, 2).float()
            with torch.inference_mode():
                found.append(backbone((batch - mean) / std).float().flatten(1).cpu().numpy())
            task.advance(len(decoded))
    features: NDArray[np.float32] = np.concatenate(found)
    return features


def write_embeddings(
    path: Path, ids: NDArray[np.object_], features: NDArray[np.float32], *, model: str, backbone: str
) -> None:
    """Write features to a Parquet file, joined to ids; `derive_groups` looks for it at `embeddings_path`.

    Args:
        ids: (n_images,). features: (n_images, n_features).
        model, backbone: names of their source, for the header.
    """
    table = pd.DataFrame(features, columns=[f"feature{number}" for number in range(features.shape[1])])
    table.insert(0, "id", ids)
    write_parquet(path, table, {"version": VERSION, "kind": "embeddings", "model": model, "backbone": backbone})


def read_embeddings(path: Path, ids: NDArray[np.object_]) -> tuple[NDArray[np.float32], str] | None:
    """Return the features of rows and their backbone, or None if there are none.

    Raises:
        StoreError: if the file is broken, or does not contain all of the rows.
    """
    try:
        table, header = read_parquet(path)
    except FileNotFoundError:
        return None
    position = pd.Index(table["id"]).get_indexer(pd.Index(ids))
    if header.get("version") != VERSION or (position < 0).any():
        raise StoreError(
            f"{path} has features of {len(table)} images, but lacks {int((position < 0).sum())} of {len(ids)} rows. "
            f"Run dfens groups --model {header.get('model')} again, or move the file away to cluster by traces."
        )
    return table.drop(columns="id").to_numpy(np.float32)[position], str(header["backbone"])
