"""Settings of the kinds `frames`, `audio` and `av`."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from oof.errors import ConfigError
from trainers.augment.settings import AugmentSettings
from trainers.features.settings import ExtractSettings
from trainers.kinds.repeats import RepeatSettings
from trainers.networks.clip_settings import ClipNetworkSettings, FusionSettings
from trainers.networks.settings import NetworkSettings, OptimSettings, PredictionSettings
from trainers.runtime.settings import check_leaves_reals, check_range

RAW_BACKBONES = ("aasist", "aasist-l")
OTHER_MODEL = "model:"  # before the name of the model from which an encoder starts


@dataclass(frozen=True, kw_only=True)
class _ClipSettings(
    RepeatSettings, PredictionSettings, AugmentSettings, OptimSettings, ClipNetworkSettings, ExtractSettings
):
    """Settings shared by all kinds on clips.

    pretrained: true (weights from the hub), false (random weights), the path of a file of weights, or "model:NAME":
        the encoder of another model on clips in dfens.toml, fold by fold, so that no fold starts from weights that
        have seen its held-out rows. That model is trained first.
    """

    # recorded by earlier versions for all kinds on clips, without effect in those that do not have them
    former: ClassVar[tuple[str, ...]] = ("fusion", "modality_dropout", "modality_loss")
    reads_picture: ClassVar[bool] = True
    reads_sound: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for group in (ExtractSettings, AugmentSettings, OptimSettings, ClipNetworkSettings):  # the first: all types
            group.__post_init__(self)
        self.check_repeats()
        names = ("self_blend", "face_cutout", "pair_mix", "mixup", "cutmix", "reals_only")
        unsupported = [name for name in names if getattr(self, name)]
        if unsupported:
            raise ConfigError(f"{unsupported[0]} changes single images and cannot be used on clips. Leave it out.")
        if self.alignment or self.uniformity:
            raise ConfigError("alignment and uniformity are not supported for clips. Leave them at 0.")
        if self.tta not in ("none", "hflip"):
            raise ConfigError(f'tta = "{self.tta}" is not supported for clips. Set "none" or "hflip".')
        if self.layer_decay != 1.0:
            raise ConfigError("layer_decay is not supported for clips. Leave it at 1.0.")

    @property
    def extraction(self) -> ExtractSettings:
        """Return the settings of the features extracted for this model."""
        names = ExtractSettings.__dataclass_fields__
        return ExtractSettings(**{name: getattr(self, name) for name in names})

    @property
    def views(self) -> int:
        """Return the number of passes over each clip at prediction, which is the cost of test-time augmentation."""
        return self.time_views * (2 if self.tta == "hflip" and self.reads_picture else 1)

    @property
    def ignored(self) -> frozenset[str]:
        """Return the settings that have no effect with the others.

        Sound is not mirrored, and views are merged only if the moments of one are processed together.
        """
        is_merged = self.views > 1 and (self.temporal != "none" or self.pooling == "attention")
        return frozenset((() if self.reads_picture else ("tta",)) + (() if is_merged else ("tta_merge",)))


@dataclass(frozen=True, kw_only=True)
class _PictureSettings:
    """Settings of frames.

    image_size: height and width of the network's input in pixels (0: frame_size, the size of the stored frames); if
        smaller, training uses random crops, the same in all frames of a clip, and prediction the central one.
    """

    image_size: int = 0


@dataclass(frozen=True, kw_only=True)
class _SoundSettings:
    """Settings of sound.

    window_s: length of one window, s. spec_frequency, spec_time: maximum masked range of a spectrogram with
    SpecAugment, as a fraction of its bands and columns. gain_db: maximum random change of the level of a clip, dB.
    sound_noise: probability that noise is added to the sound of a clip.
    """

    window_s: float = 2.0
    spec_frequency: float = 0.15
    spec_time: float = 0.15
    gain_db: float = 6.0
    sound_noise: float = 0.3

    def check_sound(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the first setting out of range.
        """
        check_range(self, 0.01, 3600, "window_s")
        check_range(self, 0, 1, "spec_frequency", "spec_time", "sound_noise")
        check_range(self, 0, 60, "gain_db")


@dataclass(frozen=True, kw_only=True)
class FramesSettings(_ClipSettings, _PictureSettings, NetworkSettings):
    """A timm backbone on frames of clips; `moments` is the number of frames in one pass."""

    kind: Literal["frames"] = "frames"
    reads_sound: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        NetworkSettings.__post_init__(self)
        _check_features(self)
        _check_image_size(self)


@dataclass(frozen=True, kw_only=True)
class AudioSettings(_ClipSettings, _SoundSettings, NetworkSettings):
    """A backbone on windows of sound; `moments` is the number of windows in one pass.

    backbone: a timm model for log-mel spectrograms (with a time axis), or `aasist` or `aasist-l` for raw
    waveforms, without pretrained weights.
    """

    kind: Literal["audio"] = "audio"
    moments: int = 2
    reads_picture: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        NetworkSettings.__post_init__(self)
        _check_features(self)
        self.check_sound()
        _check_raw(self, "backbone", "backbone_options", "pretrained")
        if self.inputs != ("rgb",):
            raise ConfigError("inputs applies to images. Leave it out for a model of the kind audio.")


@dataclass(frozen=True, kw_only=True)
class AvSettings(_ClipSettings, _PictureSettings, _SoundSettings, FusionSettings, NetworkSettings):
    """Video and sound together: each of `moments` frames with the sound around it.

    backbone: backbone for the frames; sound_backbone: backbone for the sound around each frame (window_s seconds), as
        in the kind audio.
    sound_options: further arguments of `timm.create_model` for the sound backbone.
    sound_pretrained: as `pretrained`, for the sound backbone.
    sound_slip: probability that the sound of a real clip is shifted against its video in training, which makes it a
        fake. sound_slip_s: smallest and largest shift, seconds.
    """

    kind: Literal["av"] = "av"
    sound_backbone: str = "resnet18"
    sound_options: dict[str, Any] = field(default_factory=dict)
    sound_pretrained: bool | str = True
    window_s: float = 0.5
    sound_slip: float = 0.0
    sound_slip_s: tuple[float, float] = (0.2, 0.8)
    temporal: Literal["none", "conv", "transformer"] = "conv"

    def __post_init__(self) -> None:
        super().__post_init__()
        NetworkSettings.__post_init__(self)
        _check_features(self)
        FusionSettings.__post_init__(self)
        check_range(self, 0, 1, "sound_slip")
        check_leaves_reals(self, "sound_slip")
        if not 0 < self.sound_slip_s[0] <= self.sound_slip_s[1] < math.inf:
            raise ConfigError(
                f"sound_slip_s = {list(self.sound_slip_s)}: expected two finite numbers above 0, the smaller one first."
            )
        self.check_sound()
        _check_image_size(self)
        _check_raw(self, "sound_backbone", "sound_options", "sound_pretrained")


def _check_features(settings: NetworkSettings) -> None:
    if settings.feature_norm != "backbone":
        raise ConfigError('feature_norm applies only to models on images. Leave it at "backbone" for clips.')


def _check_image_size(settings: "FramesSettings | AvSettings") -> None:
    if not 0 <= settings.image_size <= settings.frame_size:
        raise ConfigError(
            f"image_size = {settings.image_size} must be from 0 (the whole frame) to frame_size = "
            f"{settings.frame_size}, the size of the stored frames."
        )


def _check_raw(settings: "AudioSettings | AvSettings", backbone: str, options: str, pretrained: str) -> None:
    """Check what a backbone for raw waveforms needs, and that no setting is given that it does not have."""
    name, weights = getattr(settings, backbone), getattr(settings, pretrained)
    if name not in RAW_BACKBONES:
        return
    if settings.sample_rate != 16_000 or settings.window_s < 0.4:
        raise ConfigError(
            f'{backbone} = "{name}" needs waveforms of 16,000 Hz and at least 0.4 s; here sample_rate = '
            f"{settings.sample_rate} and window_s = {settings.window_s:g}."
        )
    if getattr(settings, options):
        raise ConfigError(f'{backbone} = "{name}" has no options. Set {options} = {{}}.')
    if isinstance(weights, str) and not weights.startswith(OTHER_MODEL):
        raise ConfigError(
            f'{backbone} = "{name}" cannot start from the file of weights {weights!r}. Set {pretrained} = false, or '
            f'"{OTHER_MODEL}NAME" to start from another model in dfens.toml.'
        )
