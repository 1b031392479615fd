"""Pseudo-fakes that only a model of video and sound can detect: real clips whose sound is shifted against the video.

A joint network must learn from few out-of-sync clips what neither modality shows alone. Shifting the sound of real
clips adds examples, as self-blended images do for seams.
"""

from trainers.augment.random_streams import ImageRandom
from trainers.kinds.clips.settings import AvSettings
from trainers.media.clip_record import ClipRecord


class SoundSlip:
    """Draws the shift of a clip's sound in an epoch, and the part of the clip that is used.

    Shifted sound leaves one end of the clip silent, which would reveal the pseudo-fakes. Therefore only a part of each
    training clip, shifted or not, is used: one that has sound after such a shift.
    """

    def __init__(self, settings: AvSettings) -> None:
        self._share, self._range_s = settings.sound_slip, settings.sound_slip_s

    def is_drawn(self, record: ClipRecord | None, random: ImageRandom) -> bool:
        """Return whether a clip is shifted if it is real; a clip without video or sound never is."""
        return has_both(record) and bool(random.stream("slip").random() < self._share)

    def draw(self, record: ClipRecord, random: ImageRandom) -> tuple[float, float, float]:
        """Return the shift in seconds (positive: later sound is used), and the part of the clip, 0 to 1."""
        rng = random.stream("slip")
        rng.random()  # used by `is_drawn`
        times = record.tensor("times_s")[record.spread]
        duration_s = float(times[-1] - times[0]) * len(times) / (len(times) - 1)
        shift_s = min(rng.uniform(*self._range_s), duration_s / 2)
        lost = shift_s / duration_s
        return (shift_s, 0.0, 1 - lost) if rng.random() < 0.5 else (-shift_s, lost, 1.0)


def has_both(record: ClipRecord | None) -> bool:
    """Return whether a clip has sound and more than one frame."""
    return record is not None and len(record.spread) > 1 and len(record.sound) > 0
