"""JPEG files decoded on a CUDA device, by nvJPEG through torchvision: `decode = "gpu"`."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oof.errors import TrainingError
from trainers.media.image import decode_at, is_plain_jpeg


def decode_on_device(files: Sequence[bytes], paths: Sequence[str], edge: int, device: torch.device) -> Tensor:
    """Images of files at one size, shape (n_files, edge, edge, 3), uint8 RGB, on the device.

    nvJPEG's rounding and the resizing here (linear, antialiased) differ a little from OpenCV's, so a model
    trained with it predicts with it. Files that nvJPEG cannot decode alone (other kinds than JPEG, CMYK, those
    that EXIF turns) are read as `decode = "area"` reads them; which ones depends on the file alone.

    Args:
        files: their bytes. paths: their names in messages.

    Raises:
        DataError: a file that is cut or no image.
        TrainingError: a torchvision that does not offer it.
    """
    plain = [row for row, data in enumerate(files) if is_plain_jpeg(data)]
    decoded = dict(zip(plain, _decode_jpegs([files[row] for row in plain], device), strict=True)) if plain else {}
    batch = torch.empty((len(files), 3, edge, edge), dtype=torch.uint8, device=device)
    for row, (data, path) in enumerate(zip(files, paths, strict=True)):
        image = decoded.get(row)
        if image is None:
            batch[row] = torch.from_numpy(decode_at(data, path, edge, "area")).to(device).permute(2, 0, 1)
        else:
            batch[row] = _resized(image, edge)
    return batch.permute(0, 2, 3, 1)


def _decode_jpegs(files: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Each image (3, height, width); None where this one cannot be decoded here."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as err:
        raise TrainingError(
            'decode = "gpu" needs a torchvision that decodes JPEG, and this one does not. Set decode = "area".'
        ) from err
    tensors = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision 0.29 announces that decoding will move to another package
        try:
            return list(decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device))
        except RuntimeError as err:
            if "not compiled" in str(err).lower():
                raise TrainingError(
                    f'decode = "gpu" is not in this build of torchvision ({err}). Set decode = "area".'
                ) from err
        found: list[Tensor | None] = []  # it gives no partial results: find the one that it stumbled over
        for tensor in tensors:
            try:
                found.append(decode_jpeg(tensor, mode=ImageReadMode.RGB, device=device))
            except RuntimeError:
                found.append(None)
        return found


def _resized(image: Tensor, edge: int) -> Tensor:
    if image.shape[1:] == (edge, edge):
        return image
    found = interpolate(image[None].float(), (edge, edge), mode="bilinear", antialias=True)
    return found[0].round().clamp(0, 255).to(torch.uint8)
