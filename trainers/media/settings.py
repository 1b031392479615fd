"""Settings of how images are read and resized."""

from dataclasses import dataclass
from typing import Literal

from oof.errors import ConfigError
from trainers.runtime.settings import check_range

Decode = Literal["area", "scaled", "pil"]
DeviceDecode = Literal["area", "scaled", "pil", "gpu"]


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Decoding and resizing of images.

    image_size: height and width of the input of the network in pixels.
    crop: height and width in pixels to which images are resized first; training takes random windows of image_size
        from them, prediction the central one (0: image_size).
    decode: how images are read: area, scaled or pil (described in trainers/media/image.py), or gpu (by nvJPEG on a
        CUDA device).
    """

    image_size: int = 224
    crop: int = 0
    decode: DeviceDecode = "area"

    def __post_init__(self) -> None:
        check_range(self, 1, 1e9, "image_size")
        if self.crop and self.crop < self.image_size:
            raise ConfigError(f"crop = {self.crop} must be at least image_size = {self.image_size}.")

    @property
    def stored_size(self) -> int:
        """Height and width in pixels to which images are resized, before windows are taken from them."""
        return self.crop or self.image_size

    @property
    def host_decode(self) -> Decode:
        """How single images are read on the CPU."""
        return "area" if self.decode == "gpu" else self.decode
