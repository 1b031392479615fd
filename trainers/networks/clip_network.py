"""Networks on clips: an encoder per modality, fusion, a temporal head, and one logit per clip."""

from typing import Any

import torch
from torch import Tensor, nn

from trainers.networks.clip_settings import ClipNetworkSettings, FusionSettings
from trainers.networks.output import NetworkOutput

_WIDTH = 128  # number of features in fusion and temporal head
_HEADS = 4


class ClipNetwork(nn.Module):
    """Network on clips as sequences of moments, each a frame, a window of sound, or both.

    Args:
        picture, sound: encoders that map (n, …) to features (n, num_features); None if the model does not use one.
        settings: temporal head, and whether moments are weighted by attention.
        fusion: how the two modalities are fused; ignored if there is only one.
    """

    def __init__(
        self,
        picture: nn.Module | None,
        sound: nn.Module | None,
        settings: ClipNetworkSettings,
        fusion: FusionSettings | None = None,
    ) -> None:
        super().__init__()
        fusion = fusion or FusionSettings()
        self.picture, self.sound = picture, sound
        self.fusion = _fusion(picture, sound, fusion)
        width = _features(picture) or _features(sound) if self.fusion is None else _WIDTH
        self.temporal = None if settings.temporal == "none" else _temporal(settings, width)
        width = width if self.temporal is None else _WIDTH
        self.attention = nn.Linear(width, 1) if settings.pooling == "attention" else None
        self.head = nn.Linear(width, 1)
        both = self.fusion is not None and fusion.modality_loss > 0
        self.side_heads = nn.ModuleList(nn.Linear(_WIDTH, 1) for _ in range(2)) if both else None
        self._modality_loss, self._modality_dropout = fusion.modality_loss, fusion.modality_dropout

    def forward(
        self, frames: Tensor, frame_mask: Tensor, sound: Tensor, sound_mask: Tensor, shifted: Tensor | None = None
    ) -> Tensor | NetworkOutput:
        """Return the logit of each clip, (batch,).

        In training with a loss per modality, also return the logit of each modality and the weights of the clips in it.

        Args:
            frames: (batch, moments, 3, size, size), normalised. frame_mask: (batch, moments), mask of existing frames.
            sound: (batch, moments, n_samples), in [-1, 1]. sound_mask: (batch, moments), mask of existing sound.
            shifted: (batch,), 1 for pseudo-fakes whose video and sound are each genuine: no modality is dropped, and
                they do not contribute to the losses of the modalities. None: there are none.
        """
        is_shifted = 0 if shifted is None else shifted
        if self.training and self.fusion is not None and self._modality_dropout:
            frame_mask, sound_mask = self._drop_modalities(frame_mask, sound_mask, is_shifted)
        logits, weight, parts = self._moments(frames, frame_mask, sound, sound_mask)
        clip = _mean(logits, weight)
        if not self.training or self.side_heads is None:
            return clip
        sides = []
        for head, part, mask in zip(self.side_heads, parts, (frame_mask, sound_mask), strict=True):
            sides.append((_mean(head(part)[..., 0], mask), self._modality_loss * mask.amax(1) * (1 - is_shifted)))
        return NetworkOutput(clip, tuple(sides))

    def moments(self, frames: Tensor, frame_mask: Tensor, sound: Tensor, sound_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit of each moment and its weight in the mean over the clip, (batch, moments) each."""
        logits, weight, _ = self._moments(frames, frame_mask, sound, sound_mask)
        return logits, weight

    def _moments(
        self, frames: Tensor, frame_mask: Tensor, sound: Tensor, sound_mask: Tensor
    ) -> tuple[Tensor, Tensor, Any]:
        picture = None if self.picture is None else _encode(self.picture, frames)
        voice = None if self.sound is None else _encode(self.sound, sound)
        parts: Any = ()
        if self.fusion is not None:
            values, parts = self.fusion(picture, frame_mask, voice, sound_mask)
            mask = torch.maximum(frame_mask, sound_mask)
        else:
            alone, mask = (voice, sound_mask) if picture is None else (picture, frame_mask)
            assert alone is not None
            values = alone * mask[..., None]
        if self.temporal is not None:
            values = self.temporal(values, mask)
        # a completely unreadable clip still needs a logit: that of empty moments
        weight = torch.where(mask.amax(1, keepdim=True) > 0, mask, torch.ones_like(mask))
        if self.attention is not None:
            score = self.attention(values)[..., 0].float().masked_fill(weight == 0, -1e4)
            weight = score.softmax(1)
        return self.head(values)[..., 0].float(), weight, parts

    def _drop_modalities(
        self, frame_mask: Tensor, sound_mask: Tensor, shifted: Tensor | int = 0
    ) -> tuple[Tensor, Tensor]:
        """Drop the video or the sound of some clips that have both, so that the network does not rely on one alone."""
        has_both = (frame_mask.amax(1) > 0) & (sound_mask.amax(1) > 0)
        draw = torch.rand(2, len(frame_mask), device=frame_mask.device)
        hidden = has_both & (draw[0] < self._modality_dropout * (1 - shifted))
        hide_picture = hidden & (draw[1] < 0.5)
        return frame_mask * ~hide_picture[:, None], sound_mask * ~(hidden & ~hide_picture)[:, None]

    # ---- methods of timm's networks that the optimiser needs ----------------

    def get_classifier(self) -> nn.Module:
        """Return the modules after the encoders, which are randomly initialised."""
        after: list[nn.Module | None] = [self.fusion, self.temporal, self.attention, self.head, self.side_heads]
        return nn.ModuleList(module for module in after if module is not None)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable gradient checkpointing of the encoders, which saves memory."""
        for encoder in (self.picture, self.sound):
            inner = getattr(encoder, "backbone", encoder)
            if hasattr(inner, "set_grad_checkpointing"):
                inner.set_grad_checkpointing(enable)  # type: ignore[operator, union-attr]


def _encode(encoder: nn.Module, values: Tensor) -> Tensor:
    features: Tensor = encoder(values.flatten(0, 1)).float()
    return features.view(*values.shape[:2], -1)


def _mean(logits: Tensor, weight: Tensor) -> Tensor:
    return (logits.float() * weight).sum(1) / weight.sum(1).clamp(min=1e-6)


def _features(encoder: nn.Module | None) -> int:
    return 0 if encoder is None else int(encoder.num_features)  # type: ignore[arg-type]


def _fusion(picture: nn.Module | None, sound: nn.Module | None, settings: FusionSettings) -> nn.Module | None:
    if picture is None or sound is None:
        return None
    kind = GatedFusion if settings.fusion == "gated" else CrossAttentionFusion
    return kind(_features(picture), _features(sound))


class _Parts(nn.Module):
    """Projection of both modalities to the same width; a learned vector replaces a missing modality."""

    def __init__(self, picture: int, sound: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(n, _WIDTH), nn.LayerNorm(_WIDTH)) for n in (picture, sound)
        )
        self.absent = nn.Parameter(torch.zeros(2, _WIDTH))

    def both(self, picture: Tensor, frame_mask: Tensor, sound: Tensor, sound_mask: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for index, (values, mask) in enumerate(((picture, frame_mask), (sound, sound_mask))):
            there = mask[..., None] > 0
            found.append(torch.where(there, self.project[index](values), self.absent[index]))
        return found[0], found[1]


class GatedFusion(_Parts):
    """Fusion by a learned gate between video and sound for each channel, and an MLP on both together.

    The gate is that of Arevalo et al., Gated Multimodal Units, 2017; the product of both parts lets the network compare
    them, for example to find an open mouth without sound.
    """

    def __init__(self, picture: int, sound: int) -> None:
        super().__init__(picture, sound)
        self.gate = nn.Linear(2 * _WIDTH, _WIDTH)
        self.compare = nn.Sequential(nn.Linear(3 * _WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH))

    def forward(self, picture: Tensor, frame_mask: Tensor, sound: Tensor, sound_mask: Tensor) -> tuple[Tensor, Any]:
        first, second = self.both(picture, frame_mask, sound, sound_mask)
        gate = self.gate(torch.cat([first, second], -1)).sigmoid()
        joined = gate * first + (1 - gate) * second
        return joined + self.compare(torch.cat([first, second, first * second], -1)), (first, second)


class CrossAttentionFusion(_Parts):
    """Fusion by cross-attention: the moments of each modality attend to those of the other, over the whole clip."""

    def __init__(self, picture: int, sound: int) -> None:
        super().__init__(picture, sound)
        self.attend = nn.ModuleList(nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True) for _ in range(2))
        self.place = nn.Linear(1, _WIDTH)
        self.join = nn.Sequential(nn.LayerNorm(4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH), nn.GELU())

    def forward(self, picture: Tensor, frame_mask: Tensor, sound: Tensor, sound_mask: Tensor) -> tuple[Tensor, Any]:
        first, second = self.both(picture, frame_mask, sound, sound_mask)
        place = self.place(_places(first))
        from_sound = self.attend[0](first + place, second + place, second, need_weights=False)[0]
        from_picture = self.attend[1](second + place, first + place, first, need_weights=False)[0]
        return self.join(torch.cat([first, second, from_sound, from_picture], -1)), (first, second)


def _places(values: Tensor) -> Tensor:
    """Return the position of each moment in the clip, in [-1, 1], (1, moments, 1)."""
    return torch.linspace(-1, 1, values.shape[1], device=values.device)[None, :, None]


def _temporal(settings: ClipNetworkSettings, width: int) -> nn.Module:
    return TemporalConvolution(width) if settings.temporal == "conv" else TemporalTransformer(width)


class TemporalConvolution(nn.Module):
    """Temporal head of convolutions over time on features and their differences between moments."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, _WIDTH), nn.LayerNorm(_WIDTH))
        self.convolutions = nn.Sequential(
            nn.Conv1d(2 * _WIDTH, _WIDTH, 3, padding=1), nn.GELU(), nn.Conv1d(_WIDTH, _WIDTH, 3, padding=1)
        )

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        base = self.project(values) * mask[..., None]
        change = torch.cat([torch.zeros_like(base[:, :1]), base[:, 1:] - base[:, :-1]], 1)
        convolved: Tensor = self.convolutions(torch.cat([base, change.abs()], -1).transpose(1, 2)).transpose(1, 2)
        changed: Tensor = base + convolved
        return changed


class TemporalTransformer(nn.Module):
    """Temporal head of two transformer layers over the moments."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, _WIDTH), nn.LayerNorm(_WIDTH))
        self.place = nn.Linear(1, _WIDTH)
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, 2 * _WIDTH, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        base = self.project(values)
        nothing = mask.amax(1, keepdim=True) == 0  # attention without any unmasked moment would be NaN
        found: Tensor = self.layers(base + self.place(_places(base)), src_key_padding_mask=(mask == 0) & ~nothing)
        return found
