"""Small JPEG versions of media files for pages that people look at."""

import cv2
import numpy as np

from oof.errors import DataError
from trainers.media.arrays import Image


def thumbnail(image: Image, size: int) -> bytes:
    """Return an image, (height, width, 3) RGB, as JPEG bytes whose longer side is at most `size` pixels.

    Raises:
        DataError: if it cannot be encoded.
    """
    scale = min(1.0, size / max(image.shape[:2]))
    if scale < 1:
        shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75])
    if not done:
        raise DataError(f"An image of {image.shape[1]} x {image.shape[0]} pixels cannot be encoded as JPEG.")
    return bytes(encoded.tobytes())
