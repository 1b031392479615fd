"""Check clips before training: streams, sound, rotation, decoding."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from oof.errors import DataError, examples
from trainers.data.competition import Problem
from trainers.media.clip_info import ClipInfo, probe_clip, undecodable_tail
from trainers.media.sound_levels import SoundLevels, measure_sound

_LENGTHS_DIFFER_S = 0.25  # longer than a frame or two and than the padding of audio codecs


@dataclass(frozen=True)
class ClipCheck:
    """The result of inspecting a clip; error: why it cannot be used, without its name, or None."""

    info: ClipInfo | None = None
    sound: SoundLevels | None = None
    error: str | None = None


@dataclass(frozen=True)
class ClipCounts:
    """Statistics of the inspected clips of a part.

    seconds: total duration. shortest_s, longest_s: range of video durations. formats: container, codecs and number of
    clips, the most frequent first. frame_rates: the same, frames per second. without_sound, silent, rotated: number of
    clips.
    """

    seconds: float
    shortest_s: float
    longest_s: float
    formats: dict[str, int] = field(default_factory=dict)
    frame_rates: dict[str, int] = field(default_factory=dict)
    without_sound: int = 0
    silent: int = 0
    rotated: int = 0


def inspect_clip(path: str) -> ClipCheck:
    """Read a clip's headers, decode its last group of pictures and the ends of its sound."""
    try:
        info = probe_clip(path)
        if info.picture is None and info.sound is None:
            return ClipCheck(info, error="has neither a video nor an audio stream")
        if info.missing_bytes:
            whole = info.size_bytes + info.missing_bytes
            return ClipCheck(info, error=f"is truncated: it has {info.size_bytes} of {whole} bytes")
        if info.picture is not None:
            if not info.picture.frames and not info.picture.duration_s and not info.duration_s:
                return ClipCheck(info, error="has a video stream without frames")
            tail = undecodable_tail(path)
            if tail:
                return ClipCheck(info, error=f"is truncated or damaged: its last {tail:.2f} s cannot be decoded")
        return ClipCheck(info, None if info.sound is None else measure_sound(path))
    except DataError as err:
        return ClipCheck(error=str(err).removeprefix(f"{path} ").split(". Get the file again")[0])


def count_clips(clips: Sequence[ClipCheck], most: int = 5) -> ClipCounts | None:
    """Return statistics of the readable clips of a part, or None if there are none."""
    infos = [clip.info for clip in clips if clip.info is not None and clip.error is None]
    if not infos:
        return None
    seconds = [info.picture.duration_s if info.picture else info.duration_s for info in infos]
    rates = Counter(f"{info.picture.frame_rate:.5g}" for info in infos if info.picture)
    return ClipCounts(
        seconds=round(sum(seconds), 3),
        shortest_s=round(min(seconds), 3),
        longest_s=round(max(seconds), 3),
        formats=dict(Counter(_format(info) for info in infos).most_common(most)),
        frame_rates=dict(rates.most_common(most)),
        without_sound=sum(info.sound is None for info in infos),
        silent=sum(clip.sound is not None and clip.sound.is_silent for clip in clips),
        rotated=sum(info.picture is not None and info.picture.rotation != 0 for info in infos),
    )


def _format(info: ClipInfo) -> str:
    codecs = [track.codec for track in (info.picture, info.sound) if track is not None]
    return f"{info.container} {' + '.join(codecs)}"


def clip_problems(part: str, ids: Sequence[str], clips: Sequence[ClipCheck]) -> list[Problem]:
    """Return warnings about the clips of a part that matter for models of video or sound.

    Args:
        part: "train", "validation" or "test".
        ids: ids of the inspected clips.
        clips: result for each clip.
    """
    readable = [
        (id_, clip, clip.info) for id_, clip in zip(ids, clips, strict=True) if clip.info is not None and not clip.error
    ]
    problems = []
    for kind, concerns, words, remedy in _WARNINGS:
        named = [name for id_, clip, info in readable if (name := concerns(id_, clip, info))]
        if named:
            found = f"{len(named)} of {len(readable)} {part} clips {words}: {examples(named)}."
            problems.append(Problem(kind, part, found, remedy, tuple(named), is_error=False))
    return problems


Concerns = Callable[[str, ClipCheck, ClipInfo], str | None]


def _when(condition: Callable[[ClipCheck, ClipInfo], bool]) -> Concerns:
    return lambda id_, clip, info: id_ if condition(clip, info) else None


def _length_difference(id_: str, clip: ClipCheck, info: ClipInfo) -> str | None:
    difference = info.sound_minus_picture_s
    if difference is None or abs(difference) <= _LENGTHS_DIFFER_S:
        return None
    return f"{id_} ({difference:+.2f} s)"


def _rotation(id_: str, clip: ClipCheck, info: ClipInfo) -> str | None:
    return None if info.picture is None or not info.picture.rotation else f"{id_} ({info.picture.rotation} degrees)"


_WARNINGS: tuple[tuple[str, Concerns, str, str], ...] = (
    (
        "no-picture",
        _when(lambda clip, info: info.picture is None),
        "have no video stream",
        "A model of frames cannot predict them: leave them out, or train on sound.",
    ),
    (
        "no-sound",
        _when(lambda clip, info: info.sound is None),
        "have no sound",
        "For a model of sound they are silent; dfens check --leaks reports whether this alone separates the classes.",
    ),
    (
        "silent",
        _when(lambda clip, info: clip.sound is not None and clip.sound.is_silent),
        "have a silent sound track",
        "For a model of sound they are silent.",
    ),
    (
        "length",
        _length_difference,
        "have sound that is shorter or longer than the video",
        "If both are used, they are aligned at the start.",
    ),
    ("rotated", _rotation, "have a rotation flag", "It is applied when they are decoded; nothing needs to be done."),
)
