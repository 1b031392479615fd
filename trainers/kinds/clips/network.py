"""The network of a model on clips, and the preprocessing of its inputs on the device."""

import dataclasses
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from oof.errors import TrainingError
from trainers.augment.spec_augment import spec_augment
from trainers.features.mel import LogMel
from trainers.kinds.clips.moments import AnyClipSettings, ClipBatch
from trainers.kinds.clips.settings import RAW_BACKBONES, AudioSettings, AvSettings, FramesSettings
from trainers.networks.aasist import SIZES, Aasist
from trainers.networks.backbone import create_model
from trainers.networks.clip_network import ClipNetwork
from trainers.networks.normalise import grey_mean_and_std
from trainers.networks.settings import NetworkSettings
from trainers.networks.sound_encoder import MelEncoder, without_classifier


def make_clip_network(settings: AnyClipSettings, root: Path = Path()) -> ClipNetwork:
    """Return the network of a model; paths of weights are relative to `root`.

    Raises:
        TrainingError: as in `create_model`.
    """
    picture = sound = None
    if not isinstance(settings, AudioSettings):
        picture = without_classifier(create_model(settings, settings.image_size or settings.frame_size, root))
    if not isinstance(settings, FramesSettings):
        sound = _sound_encoder(settings, root)
    return ClipNetwork(picture, sound, settings, settings if isinstance(settings, AvSettings) else None)


def _sound_encoder(settings: AudioSettings | AvSettings, root: Path) -> nn.Module:
    network: NetworkSettings = settings
    if isinstance(settings, AvSettings):
        network = NetworkSettings(
            backbone=settings.sound_backbone,
            backbone_options=settings.sound_options,
            pretrained=settings.sound_pretrained,
        )
    if network.backbone in RAW_BACKBONES:
        return Aasist(SIZES[network.backbone])
    options = {"in_chans": 1, **network.backbone_options}
    try:
        backbone = create_model(dataclasses.replace(network, backbone_options=options), settings.bands, root)
    except TrainingError as err:
        if not isinstance(settings, AvSettings):
            raise
        # the message has the names of the settings of a single backbone
        raise TrainingError(f"Encoder of sound (sound_backbone, sound_options, sound_pretrained): {err}") from err
    hide = partial(spec_augment, frequency=settings.spec_frequency, time=settings.spec_time)
    return MelEncoder(LogMel(settings.mel), without_classifier(backbone), hide)


class ToDevice:
    """Moves batches of clips to the device and normalises them."""

    def __init__(self, network: ClipNetwork, device: torch.device) -> None:
        self._device = device
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        if network.picture is not None:
            mean, std = grey_mean_and_std(getattr(network.picture, "backbone", network.picture))
            self._scale, self._shift = (1 / std).to(device), (-mean / std).to(device)

    def __call__(self, batch: ClipBatch) -> ClipBatch:
        """Return frames (batch, moments, 3, size, size) and sound (batch, moments, n_samples) as float32."""
        frames, frame_mask, sound, sound_mask, shifted = (part.to(self._device, non_blocking=True) for part in batch)
        values = frames.permute(0, 1, 4, 2, 3).float()
        if self._scale is not None and self._shift is not None:
            values = torch.addcmul(self._shift, values, self._scale)
        return values, frame_mask, sound.float() / 32_768, sound_mask, shifted
