"""The moments of clips that are the input of a network: frames and windows of sound at chosen times."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.augment.pipeline import augment_image, sample_params
from trainers.augment.random_streams import ImageRandom
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.clips.slip import SoundSlip, has_both
from trainers.media.clip_record import ClipRecord
from trainers.media.loader import ahead

AnyClipSettings = FramesSettings | AudioSettings | AvSettings
Places = NDArray[np.float64]  # of moments in a clip, 0 to 1, ascending


@dataclass(frozen=True, eq=False)
class Moments:
    """One clip, or a batch of clips with a leading axis.

    frames: (moments, size, size, 3) uint8. frame_mask: (moments,) 1 if there is a frame. sound: (moments, n_samples)
    int16. sound_mask: (moments,) 1 if there is sound. A modality that a kind does not read has size or n_samples 0.
    shifted: 1 if the sound was shifted against the video, which makes a real clip a fake that neither shows alone.
    """

    frames: NDArray[np.uint8]
    frame_mask: NDArray[np.float32]
    sound: NDArray[np.int16]
    sound_mask: NDArray[np.float32]
    shifted: float = 0.0


def spread_places(count: int, view: int, views: int) -> Places:
    """Return the positions of the moments of one view: evenly spaced, with those of the views interleaved."""
    return (np.arange(count) + (view + 0.5) / views) / count


class MomentReader:
    """Reads moments of clips for one model.

    Args:
        settings: settings of the model.
        seed: seed of the random moments in training.
    """

    def __init__(self, settings: AnyClipSettings, seed: int = 0) -> None:
        self._settings, self._seed = settings, seed
        self.size = 0
        if isinstance(settings, FramesSettings | AvSettings):
            self.size = settings.image_size or settings.frame_size
        self.samples = 0
        if isinstance(settings, AudioSettings | AvSettings):
            self.samples = round(settings.window_s * settings.sample_rate)
        self._slip = SoundSlip(settings) if isinstance(settings, AvSettings) and settings.sound_slip else None

    def view(self, record: ClipRecord | None, view: int, views: int) -> Moments:
        """Return the moments of one view at prediction."""
        places = spread_places(self._settings.moments, view, views)
        found = self._read(record, places)
        edge = found.frames.shape[1]
        inset = (edge - self.size) // 2
        frames = found.frames[:, inset : inset + self.size, inset : inset + self.size]
        return Moments(frames, found.frame_mask, found.sound, found.sound_mask)

    def is_slipped(self, record: ClipRecord | None, id_: str, epoch: int) -> bool:
        """Return whether the sound of a real clip is shifted in an epoch of training, so that it counts as fake."""
        return self._slip is not None and self._slip.is_drawn(record, ImageRandom(self._seed, epoch, id_))

    def drawn(self, record: ClipRecord | None, id_: str, epoch: int, *, is_real: bool = False) -> Moments:
        """Return augmented moments for training, drawn from (seed, epoch, id): one in each equal part of the clip."""
        random = ImageRandom(self._seed, epoch, id_)
        count, shift_s = self._settings.moments, 0.0
        places = (np.arange(count) + random.stream("moments").random(count)) / count
        if self._slip is not None and record is not None and has_both(record):
            moved_s, first, last = self._slip.draw(record, random)
            places = first + (last - first) * places
            shift_s = moved_s if is_real and self._slip.is_drawn(record, random) else 0.0
        found = self._read(record, places, shift_s)
        frames = found.frames
        if self.size:  # the same change for all frames, so that differences between frames are real
            params = sample_params(self._settings, frames.shape[1], self.size, random)
            frames = np.stack([augment_image(frame, params, self.size) for frame in frames])
        sound = self._changed(found.sound, random.stream("sound"))
        return Moments(frames, found.frame_mask, sound, found.sound_mask, float(shift_s != 0))

    def _read(self, record: ClipRecord | None, places: Places, shift_s: float = 0.0) -> Moments:
        count = len(places)
        stored = self._settings.frame_size if self.size else 0
        frames = np.zeros((count, stored, stored, 3), np.uint8)
        sound = np.zeros((count, self.samples), np.int16)
        frame_mask, sound_mask = np.zeros(count, np.float32), np.zeros(count, np.float32)
        if record is None:
            return Moments(frames, frame_mask, sound, sound_mask)
        times: NDArray[np.float64] | None = None
        if self.size and len(record.spread):
            rows = record.spread[np.minimum((places * len(record.spread)).astype(int), len(record.spread) - 1)]
            unique, back = np.unique(rows, return_inverse=True)
            frames, frame_mask[:] = record.frames(unique)[back], 1
            times = record.tensor("times_s")[rows].astype(np.float64)
        if self.samples and len(record.sound):
            for at, start in enumerate(self._starts(record, places, None if times is None else times + shift_s)):
                sound[at], sound_mask[at] = _window(record.sound, start, self.samples)
        return Moments(frames, frame_mask, sound, sound_mask)

    def _starts(self, record: ClipRecord, places: Places, times: NDArray[np.float64] | None) -> list[int]:
        """Return the start of each window in the sound: around its frame, or anywhere if only sound is used."""
        rate = self._settings.sample_rate
        if times is not None:
            starts = (times - record.sound_start_s) * rate - self.samples / 2
        else:
            starts = places * max(0, len(record.sound) - self.samples)
        return [round(float(start)) for start in starts]

    def _changed(self, sound: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
        """Change the level and add noise."""
        settings = self._settings
        if not self.samples or isinstance(settings, FramesSettings):
            return sound
        gain, chance, noise_db = rng.uniform(-1, 1), rng.random(), rng.uniform(15, 40)
        values = sound.astype(np.float32) * np.float32(10 ** (gain * settings.gain_db / 20))
        if chance < settings.sound_noise:
            power = float(np.sqrt(np.mean(values**2)))
            noise = rng.standard_normal(values.shape, np.float32)
            values += noise * np.float32(power * 10 ** (-noise_db / 20))
        return np.asarray(np.clip(np.rint(values), -32_768, 32_767), np.int16)


def _window(sound: NDArray[np.int16], start: int, count: int) -> tuple[NDArray[np.int16], float]:
    """Return a window of samples, padded with zeros, and 1.0 if it contains any sound."""
    window = np.zeros(count, np.int16)
    first, last = max(0, start), min(len(sound), start + count)
    if first >= last:
        return window, 0.0
    window[first - start : last - start] = sound[first:last]
    return window, 1.0


ClipBatch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def stacked(moments: Sequence[Moments]) -> ClipBatch:
    """Return clips as one batch: frames, frame_mask, sound, sound_mask, shifted."""
    return (
        torch.from_numpy(np.stack([clip.frames for clip in moments])),
        torch.from_numpy(np.stack([clip.frame_mask for clip in moments])),
        torch.from_numpy(np.stack([clip.sound for clip in moments])),
        torch.from_numpy(np.stack([clip.sound_mask for clip in moments])),
        torch.tensor([clip.shifted for clip in moments]),
    )


def batches(plan: Iterable[NDArray[np.intp]], read: Callable[[int], Moments], threads: int) -> Iterator[ClipBatch]:
    """Yield the clips of each set of rows, read ahead of their use by threads.

    Args:
        plan: rows of each batch.
        read: returns the moments of a row.
        threads: number of threads.
    """
    pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="clips")

    def begin(rows: NDArray[np.intp]) -> Callable[[], ClipBatch]:
        futures = [pool.submit(read, row) for row in rows.tolist()]
        return lambda: stacked([future.result() for future in futures])

    try:
        yield from ahead(plan, begin, 2)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
