"""Small JPEG versions of media files for pages that people look at."""

from pathlib import Path

import cv2
import numpy as np

from oof.errors import DataError
from trainers.media.image import decode_image


def thumbnail(path: str | Path, size: int) -> bytes:
    """Return an image as JPEG bytes whose longer side is at most `size` pixels.

    Raises:
        DataError: if the file cannot be decoded.
    """
    image = decode_image(path)
    scale = min(1.0, size / max(image.shape[:2]))
    if scale < 1:
        shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75])
    if not done:
        raise DataError(f"{path} cannot be encoded as JPEG.")
    return bytes(encoded.tobytes())
