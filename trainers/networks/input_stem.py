"""Side channels: further inputs besides RGB, and a small stem that feeds them into any backbone.

Noise residuals, frequencies and colour differences show traces that RGB hides: SRM residuals
(Fridrich and Kodovsky, TIFS 2012; with RGB in the third place of the image track), bands of the
DCT (F3Net, ECCV 2020), the image of phases alone (SPSL, CVPR 2021), YCbCr.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from oof.errors import ConfigError
from trainers.networks.settings import Inputs

CHANNELS: dict[Inputs, int] = {"rgb": 3, "ycbcr": 3, "srm": 3, "dct": 3, "phase": 1}
_BLOCK = 8
_BAND_SPREADS = (50.0, 6.0, 1.5)  # standard deviation of the low, middle and high band in photos, grey levels


class SideInputs(nn.Module):
    """A backbone behind a stem that turns RGB and its side channels into the three planes it expects.

    The stem is a 1 x 1 convolution that initially passes RGB and ignores all other channels if RGB is
    among the inputs, so that pretrained weights are unaffected at the start; training then adds the other channels.
    """

    def __init__(self, backbone: nn.Module, inputs: tuple[Inputs, ...], mean: Tensor, std: Tensor) -> None:
        """Wrap a backbone.

        Args:
            backbone: network for normalised images, (batch, 3, height, width).
            inputs: names in CHANNELS, each once.
            mean, std: values by which RGB of 0 to 255 was normalised, shape (1, 3, 1, 1).

        Raises:
            ConfigError: if there are no inputs, or one is unknown or given twice.
        """
        super().__init__()
        unknown = [name for name in inputs if name not in CHANNELS]
        if not inputs or unknown or len(set(inputs)) < len(inputs):
            raise ConfigError(f"inputs = {list(inputs)}: give one or more of {', '.join(CHANNELS)}, each once.")
        self.backbone = backbone
        self.inputs = inputs
        for name, value in (
            ("mean", mean.clone()),
            ("std", std.clone()),
            ("kernels", _srm_kernels()),
            ("cosines", _dct_kernels()),
        ):
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("bands", _dct_bands(), persistent=False)
        self.stem = nn.Conv2d(sum(CHANNELS[name] for name in inputs), 3, 1)
        if "rgb" in inputs:
            first = sum(CHANNELS[name] for name in inputs[: inputs.index("rgb")])
            with torch.no_grad():
                self.stem.weight.zero_()
                assert self.stem.bias is not None
                self.stem.bias.zero_()
                self.stem.weight[:, first : first + 3, 0, 0] = torch.eye(3)

    def forward(self, batch: Tensor) -> Tensor:
        """Return the output of the backbone for normalised RGB (batch, 3, height, width)."""
        found: Tensor = self.backbone(self.stem(self.planes(batch)))
        return found

    def planes(self, batch: Tensor) -> Tensor:
        """Return all channels, each with about unit standard deviation, (batch, channels, height, width)."""
        makers: dict[str, Callable[[Tensor], Tensor]] = {
            "ycbcr": self._ycbcr,
            "srm": self._srm,
            "dct": self._dct,
            "phase": self._phase,
        }
        with torch.autocast(batch.device.type, enabled=False):  # half precision would lose the residuals
            plain = batch.float()
            rgb = plain * self.get_buffer("std") + self.get_buffer("mean")  # 0 to 255
            parts: list[Tensor] = [plain if name == "rgb" else makers[name](rgb) for name in self.inputs]
            joined: Tensor = torch.cat(parts, dim=1)
        return joined

    def _srm(self, rgb: Tensor) -> Tensor:
        """Return three high-pass residuals of the grey image, clipped at 3 grey levels."""
        grey = nn.functional.pad(_grey(rgb), (2, 2, 2, 2), mode="reflect")
        return nn.functional.conv2d(grey, self.get_buffer("kernels")).clamp(-3, 3)

    def _dct(self, rgb: Tensor) -> Tensor:
        """Return the grey image in three DCT bands of its 8 x 8 blocks: low, middle and high frequencies."""
        grey = _grey(rgb) - 128
        height, width = grey.shape[-2:]
        grey = nn.functional.pad(grey, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
        cosines = self.get_buffer("cosines")
        strengths = nn.functional.conv2d(grey, cosines, stride=_BLOCK)
        bands = [
            nn.functional.conv_transpose2d(strengths * band, cosines, stride=_BLOCK)[..., :height, :width] / spread
            for band, spread in zip(self.get_buffer("bands"), _BAND_SPREADS, strict=True)
        ]
        return torch.cat(bands, dim=1)

    def _phase(self, rgb: Tensor) -> Tensor:
        """Return the image reconstructed from phases only, with all frequencies equally strong."""
        spectrum = torch.fft.rfft2(_grey(rgb))
        image: Tensor = torch.fft.irfft2(spectrum / spectrum.abs().clamp_min(1e-6), s=rgb.shape[-2:])
        spread = image.flatten(1).std(dim=1).clamp_min(1e-12)
        return image / spread[:, None, None, None]

    def _ycbcr(self, rgb: Tensor) -> Tensor:
        """Return luminance and the two colour differences of JPEG."""
        red, _, blue = rgb.unbind(1)
        light = _grey(rgb)[:, 0]
        return torch.stack([(light - 128) / 64, (blue - light) * 0.564 / 20, (red - light) * 0.713 / 20], dim=1)


def _grey(rgb: Tensor) -> Tensor:
    red, green, blue = rgb.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _srm_kernels() -> Tensor:
    """Return the three kernels most used in image forensics, (3, 1, 5, 5)."""
    second = torch.zeros(5, 5)
    second[2, 1:4] = torch.tensor([1.0, -2.0, 1.0])
    square = torch.zeros(5, 5)
    square[1:4, 1:4] = torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]])
    edge = torch.tensor(
        [[-1.0, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]
    )
    return torch.stack([second / 2, square / 4, edge / 12])[:, None]


def _dct_kernels() -> Tensor:
    """Return the 64 orthonormal cosines of an 8 x 8 block, (64, 1, 8, 8)."""
    at = torch.arange(_BLOCK)
    waves = torch.cos((2 * at[None] + 1) * at[:, None] * math.pi / (2 * _BLOCK)) * math.sqrt(2 / _BLOCK)
    waves[0] /= math.sqrt(2)
    return torch.einsum("ux,vy->uvxy", waves, waves).reshape(64, 1, _BLOCK, _BLOCK)


def _dct_bands() -> Tensor:
    """Return masks of the low, middle and high frequencies among the 64 cosines, (3, 64, 1, 1)."""
    at = torch.arange(_BLOCK)
    order = (at[:, None] + at[None]).reshape(64, 1, 1)
    return torch.stack([order <= 2, (order > 2) & (order <= 6), order > 6]).float()
