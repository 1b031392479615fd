"""Pseudo-fakes that only a model of picture and sound can see: real clips whose sound is moved against the picture.

A joint network has to learn from few slipped clips what no single stream shows. Every real clip is a further example of
it, as self-blended images are for seams: its own sound, heard too early or too late.
"""

from trainers.augment.random_streams import ImageRandom
from trainers.kinds.clips.settings import AvSettings
from trainers.media.clip_record import ClipRecord


class SoundSlip:
    """Draws by how much the sound of a clip is moved in an epoch, and which part of the clip is seen then.

    A moved sound leaves one end of the clip silent, which would give the pseudo-fakes away. So every clip of the
    training, moved or not, is seen in a part that has sound after such a move.
    """

    def __init__(self, settings: AvSettings) -> None:
        self._share, self._range_s = settings.sound_slip, settings.sound_slip_s

    def is_drawn(self, record: ClipRecord | None, random: ImageRandom) -> bool:
        """Whether a clip is moved, if it is real; one without picture or sound never is."""
        return has_both(record) and bool(random.stream("slip").random() < self._share)

    def draw(self, record: ClipRecord, random: ImageRandom) -> tuple[float, float, float]:
        """Return the move in seconds (positive: what sounds later is heard), and the part of the clip, 0 to 1."""
        rng = random.stream("slip")
        rng.random()  # of `is_drawn`
        times = record.tensor("times_s")[record.spread]
        duration_s = float(times[-1] - times[0]) * len(times) / (len(times) - 1)
        shift_s = min(rng.uniform(*self._range_s), duration_s / 2)
        lost = shift_s / duration_s
        return (shift_s, 0.0, 1 - lost) if rng.random() < 0.5 else (-shift_s, lost, 1.0)


def has_both(record: ClipRecord | None) -> bool:
    """Whether a clip has sound and more than one frame."""
    return record is not None and len(record.spread) > 1 and len(record.sound) > 0
