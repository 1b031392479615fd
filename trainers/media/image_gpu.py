"""Decode JPEG files on a CUDA device with torchvision's nvJPEG decoder: `decode = "gpu"`."""

import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from oof.errors import TrainingError
from trainers.media.image import decode_at, image_size, is_plain_jpeg
from trainers.media.image_damage import ImageDamageError, check_hole, check_size
from trainers.runtime.device import is_out_of_memory, on_device


def decode_on_device(files: Sequence[bytes], paths: Sequence[str], size: int, device: torch.device) -> Tensor:
    """Decode files and resize them to one size, shape (n_files, size, size, 3), uint8 RGB, on the device.

    nvJPEG's rounding and the resizing here (linear, antialiased) differ slightly from OpenCV's, so a model
    trained with it must also predict with it. Files that nvJPEG alone cannot decode correctly (formats other than JPEG,
    CMYK, EXIF rotation) are read as with `decode = "area"`, and so are damaged ones, which that refuses; this depends
    only on the file. Missing data before an intact end are not detected here.

    Args:
        files: contents of the files. paths: their names in messages.

    Raises:
        DataError: if a file is truncated or not an image.
        TrainingError: if torchvision does not support it.
    """
    plain = [row for row, data in enumerate(files) if _is_for_device(data)]
    batch = torch.empty((len(files), 3, size, size), dtype=torch.uint8, device=device)
    try:
        decoded = dict(zip(plain, _decode_jpegs([files[row] for row in plain], device), strict=True)) if plain else {}
        by_shape: dict[torch.Size, dict[int, Tensor]] = defaultdict(dict)
        for row, image in decoded.items():
            if image is not None:
                by_shape[image.shape][row] = image
        for images in by_shape.values():
            batch[on_device(np.array(list(images)), device)] = _resized(torch.stack(list(images.values())), size)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        raise TrainingError(
            f'{len(files)} images do not fit into the memory of {device} for decode = "gpu". Set a smaller batch_size, '
            f'or decode = "area".'
        ) from err
    for row, (data, path) in enumerate(zip(files, paths, strict=True)):
        if decoded.get(row) is None:
            batch[row] = on_device(decode_at(data, path, size, "area"), device).permute(2, 0, 1)
    return batch.permute(0, 2, 3, 1)


def _is_for_device(data: bytes) -> bool:
    """Return whether nvJPEG decodes a file; others, including damaged ones, are left to the CPU, which names them."""
    try:
        check_size(*(image_size(data) or (0, 0)))
        check_hole(data, "JPEG")
    except ImageDamageError:
        return False
    return is_plain_jpeg(data)


def _decode_jpegs(files: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Return each image (3, height, width); None for images that nvJPEG cannot decode."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as err:
        raise TrainingError(
            'decode = "gpu" needs a torchvision that decodes JPEG, but this one does not. Set decode = "area".'
        ) from err
    tensors = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision 0.29 warns that decoding will move to another package
        try:
            return list(decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device))
        except RuntimeError as err:
            if _is_of_the_device(err):
                raise
            if "not compiled" in str(err).lower():
                raise TrainingError(
                    f'decode = "gpu" is not in this build of torchvision ({err}). Set decode = "area".'
                ) from err
        found: list[Tensor | None] = []  # there are no partial results: find the image that failed
        for tensor in tensors:
            try:
                found.append(decode_jpeg(tensor, mode=ImageReadMode.RGB, device=device))
            except RuntimeError as err:
                if _is_of_the_device(err):
                    raise
                found.append(None)
        return found


def _is_of_the_device(error: RuntimeError) -> bool:
    """Return whether an error is caused by the device, not by a file; falling back to another decoder would hide it."""
    return is_out_of_memory(error) or "cuda error" in str(error).lower()


def _resized(images: Tensor, size: int) -> Tensor:
    """Resize (n, 3, height, width) uint8 by antialiased linear interpolation."""
    if images.shape[2:] == (size, size):
        return images
    found = interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return found.round().clamp(0, 255).to(torch.uint8)
