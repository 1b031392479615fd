"""Augmentation of decoded images: drawn from (seed, epoch, id), then done by OpenCV; resuming draws the same again.

Drawing and doing are apart, so that the same draws can be done on a device (trainers/augment/on_device.py).
"""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.augment.settings import AugmentSettings

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
_QUALITY = (50, 100)
_GRID = 4  # cells along an edge of which grid_cutout drops some


@dataclass
class AugmentParams:
    """What happens to one image in one epoch; a change that does not happen has the value that does nothing.

    top, left: pixel of the window of the image, mirrored by `border` pixels on all sides before.
    contrast, offset: value * contrast + offset (for each channel), around 128. sigma: of the blur in pixels.
    noise: standard deviation in grey values. scale: edge after reducing / edge. jpeg, webp: quality, 0 for none.
    cut: cells of a 4 x 4 grid to grey out, as bits. seed: of the noise and of RandAugment.
    """

    top: int = 0
    left: int = 0
    border: int = 0
    flip: bool = False
    contrast: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sigma: float = 0.0
    noise: float = 0.0
    scale: float = 1.0
    jpeg: int = 0
    webp: int = 0
    cut: int = 0
    seed: int = 0


def sample_rng(seed: int, epoch: int, id_: str) -> np.random.Generator:
    """The generator of one row in one epoch, whatever came before it."""
    return np.random.default_rng([seed, epoch, zlib.crc32(id_.encode())])


def sample_params(settings: AugmentSettings, edge: int, size: int, rng: np.random.Generator) -> AugmentParams:
    """Draw what happens to an image of that edge, of which the network sees a window of `size`.

    Each change takes the same number of draws, done or not. So a setting that is switched on changes nothing else,
    which keeps comparisons of settings paired.
    """
    chance, amount = rng.random(10), rng.random(12)
    drawn = AugmentParams(seed=int(rng.integers(1 << 31)))
    if edge > size:
        drawn.top, drawn.left = int(amount[0] * (edge - size + 1)), int(amount[1] * (edge - size + 1))
    elif chance[0] < settings.translate:
        drawn.border = max(1, size // 16)
        drawn.top, drawn.left = (int(value * (2 * drawn.border + 1)) for value in amount[:2])
    drawn.flip = bool(chance[1] < settings.hflip)
    if chance[2] < settings.color_jitter:
        drawn.contrast = 0.8 + 0.4 * amount[2]
        brightness = 40 * amount[3] - 20
        red, green, blue = (float(24 * value - 12 + brightness) for value in amount[4:7])
        drawn.offset = (red, green, blue)
    if chance[3] < settings.blur:
        drawn.sigma = 0.3 + 1.2 * amount[7]
    if chance[4] < settings.noise:
        drawn.noise = 1 + 7 * amount[8]
    if chance[5] < settings.downscale:
        drawn.scale = 0.4 + 0.5 * amount[9]
    quality = int(_QUALITY[0] + (_QUALITY[1] - _QUALITY[0]) * amount[10])
    if chance[6] < settings.jpeg:
        drawn.jpeg = quality
    elif chance[7] < settings.webp:
        drawn.webp = quality
    if chance[8] < settings.grid_cutout:
        drawn.cut = _block_of_cells(amount[11], drawn.seed)
    return drawn


def _block_of_cells(amount: float, seed: int) -> int:
    """One block of 1 x 1 to 2 x 3 cells of the grid, as bits."""
    rows, columns = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2))[int(amount * 6)]
    top, left = seed % (_GRID - rows + 1), seed // _GRID % (_GRID - columns + 1)
    return sum(1 << (row * _GRID + column) for row in range(top, top + rows) for column in range(left, left + columns))


def apply(image: Image, drawn: AugmentParams, settings: AugmentSettings, size: int) -> Image:
    """Do what was drawn: window, flip, RandAugment, colour, resize, blur, noise, cutout, compression.

    Args:
        image: RGB, shape (edge, edge, 3).
        size: height and width in pixels of the window that the network sees, at most edge.

    Returns:
        RGB, shape (size, size, 3); may share memory with `image`.
    """
    border = drawn.border
    if border:
        image = _typed(cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REFLECT_101))
    image = image[drawn.top : drawn.top + size, drawn.left : drawn.left + size]
    if drawn.flip:
        image = _typed(cv2.flip(image, 1))  # numpy's mirrored view is ten times slower to copy
    if settings.randaugment:
        from trainers.augment.randaugment import randaugment

        image = randaugment(image, settings.randaugment, drawn.seed)
    if drawn.contrast != 1.0:
        image = _typed(cv2.LUT(np.ascontiguousarray(image), colour_table(drawn)))
    if drawn.scale != 1.0:
        small = max(8, round(size * drawn.scale))
        reduced = cv2.resize(np.ascontiguousarray(image), (small, small), interpolation=cv2.INTER_AREA)
        image = _typed(cv2.resize(reduced, (size, size), interpolation=cv2.INTER_CUBIC))
    if drawn.sigma:
        image = _typed(cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), drawn.sigma))
    if drawn.noise:
        image = clipped(image + noise_field(drawn, size))
    if drawn.cut:
        image = np.where(cut_mask(drawn.cut, size)[..., None], np.uint8(128), image)
    if drawn.jpeg or drawn.webp:
        image = _compress(np.ascontiguousarray(image), drawn)
    return image


def augment(image: Image, settings: AugmentSettings, size: int, rng: np.random.Generator) -> Image:
    """Draw and do: a changed copy of an image at the size that the network sees."""
    return np.ascontiguousarray(apply(image, sample_params(settings, len(image), size, rng), settings, size))


def colour_table(drawn: AugmentParams) -> Image:
    """What each grey value of each channel becomes, shape (256, 1, 3)."""
    values = (np.arange(256) - 128)[:, None] * drawn.contrast + 128 + np.asarray(drawn.offset)
    return clipped(values)[:, None, :]


def noise_field(drawn: AugmentParams, size: int) -> NDArray[np.float32]:
    """Gaussian noise of one image, shape (size, size, 3)."""
    field = np.random.default_rng(drawn.seed).standard_normal((size, size, 3), np.float32)
    return field * np.float32(drawn.noise)


def cut_mask(cut: int, size: int) -> NDArray[np.bool_]:
    """The pixels of the cells that are dropped, shape (size, size)."""
    cell = np.minimum(np.arange(size) * _GRID // size, _GRID - 1)
    dropped = np.array([bool(cut >> bit & 1) for bit in range(_GRID * _GRID)]).reshape(_GRID, _GRID)
    mask: NDArray[np.bool_] = dropped[cell[:, None], cell[None, :]]
    return mask


def clipped(values: NDArray[np.floating]) -> Image:
    """Grey values: rounded, kept in 0 to 255."""
    grey: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return grey


def _compress(image: Image, drawn: AugmentParams) -> Image:
    """Through JPEG or WebP and back; the order of the planes is told to the coder, since it treats them apart."""
    kind, flag = (".jpg", cv2.IMWRITE_JPEG_QUALITY) if drawn.jpeg else (".webp", cv2.IMWRITE_WEBP_QUALITY)
    coded = cv2.imencode(kind, image[..., ::-1], [flag, drawn.jpeg or drawn.webp])[1]
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None  # just coded
    return _typed(decoded)[..., ::-1]


def _typed(image: object) -> Image:
    assert isinstance(image, np.ndarray)
    return image
