"""Test-time augmentation: ttach's views and merging, without its numerical problems.

ttach merges logits with `gmean` into NaN and repeats views (HFlip x VFlip x Rotate90 contains each of
the 8 twice); here each distinct view is used once and probabilities are merged.
"""

from collections.abc import Callable

import torch
import ttach
from torch import Tensor, nn

from oof.errors import TrainingError
from trainers.networks.settings import Merge, Tta

View = Callable[[Tensor], Tensor]
_VIEWS: dict[Tta, list[ttach.base.BaseTransform]] = {
    "none": [],
    "hflip": [ttach.HorizontalFlip()],
    "flips": [ttach.HorizontalFlip(), ttach.VerticalFlip()],
    "d4": [ttach.HorizontalFlip(), ttach.Rotate90(angles=[0, 90, 180, 270])],
}


def views(tta: Tta, size: int) -> list[View]:
    """Return functions that turn a batch (batch, 3, edge, edge) into each of its views (batch, 3, size, size).

    Args:
        tta: none, hflip (2 views), flips (4), d4 (8: flips and quarter turns), ten_crop (the four corners and
            the middle, each also mirrored; needs an edge larger than size).
        size: edge of the view in pixels; from a larger image the middle is taken.
    """
    if tta == "ten_crop":
        crops = ttach.Compose([ttach.HorizontalFlip(), ttach.FiveCrops(size, size)])
        return [transformer.augment_image for transformer in crops]

    def of_centre(change: View) -> View:
        return lambda batch: change(centre(batch, size))

    return [of_centre(transformer.augment_image) for transformer in ttach.Compose(_VIEWS[tta])]


def centre(batch: Tensor, size: int) -> Tensor:
    """Return the central window of a batch of images."""
    down, right = (batch.shape[2] - size) // 2, (batch.shape[3] - size) // 2
    return batch[:, :, down : down + size, right : right + size]


def predict(model: nn.Module, batch: Tensor, tta: Tta, merge: Merge, size: int) -> Tensor:
    """Return the merged probability of each image, shape (batch,), float64, on the device of the batch.

    Raises:
        TrainingError: if ten_crop is used with images that are no larger than the views.
    """
    if tta == "ten_crop" and batch.shape[2] <= size:
        raise TrainingError(
            f"tta = 'ten_crop' takes windows of image_size = {size} from larger images, but these have "
            f"{batch.shape[2]} pixels. Set crop above image_size, or another tta."
        )
    seen = [view(batch).contiguous(memory_format=torch.channels_last) for view in views(tta, size)]
    if batch.is_cuda:  # a GPU needs many images to be busy; the caches of a CPU hold few
        logits = model(torch.cat(seen)).float().view(len(seen), -1)
    else:
        logits = torch.stack([model(view).float().flatten() for view in seen])
    return merge_views(logits, merge)


def merge_views(logits: Tensor, merge: Merge) -> Tensor:
    """Merge the logits of the views into one probability, (views, batch) -> (batch,), float64.

    gmean is the sigmoid of the mean logit: the geometric mean of the odds, computed without underflow.
    """
    found = logits.detach().double()
    if merge == "gmean":
        return found.mean(0).sigmoid()
    return found.sigmoid().amax(0) if merge == "max" else found.sigmoid().mean(0)
