"""The demo's clips: drawn faces that talk, with a voice, and three kinds of forgery.

A seam is visible only in the video, a synthetic voice audible only in the sound, and a voice that is out of sync with
the mouth is noticeable only in both together. Therefore a video model and a sound model each miss two thirds of the
fakes, which a joint model can find.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfens.demo import TRUTH
from dfens.demo.faces import Person, draw_face, draw_person
from dfens.recipes import recipe_text
from oof.files import write_text
from oof.progress import SILENT, Progress
from trainers.media.arrays import Image
from trainers.media.clip_writer import Encoding, write_clip

STEPS = ("check", "folds", "extract --sheet clips.png", "train", "blend", "submit --dry-run")
ROWS = 480  # default number of training rows
FORGERIES = ("seam", "voice", "slip")

RATE = 12  # frames per second
SECONDS = 2.0
SAMPLE_RATE = 16_000
_SIZE = 48
_CLIPS_PER_PERSON = 4
_SLIP_S = (0.3, 0.6)
_WITHOUT_SOUND = 0.05
_ENCODING = Encoding(options={"crf": "18", "preset": "veryfast", "g": "12"}, audio_bit_rate=64_000)

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class _Clip:
    """The content of a clip; forgery is "" for a real one."""

    name: str
    person: str
    forgery: str
    has_sound: bool


def make_competition(
    folder: Path,
    *,
    train_rows: int = 512,
    test_rows: int = 256,
    seed: int = 0,
    progress: Progress = SILENT,
) -> None:
    """Write a small competition of clips, laid out as the audio-video track.

        folder/
        ├── dfens.toml
        ├── truth.csv                       labels and kinds of forgery of all clips, read only by the demo
        └── data/
            ├── train.csv                   video_name, target, person
            ├── train/  test/               MP4, 48 x 48 px, 2 s at 12 frames per second; some without sound
            └── sample_submission.csv       video_name, y_pred

    Args:
        folder: destination; an existing competition is kept.
        train_rows, test_rows: number of clips; four per person, no person in both.
        seed: the same seed gives the same files.
        progress: reports each clip.
    """
    if (folder / TRUTH).exists():
        return
    data = folder / "data"
    train = _plan("train", train_rows, seed)
    test = _plan("test", test_rows, seed)
    for part, clips in (("train", train), ("test", test)):
        with progress.task(f"generate {part} clips", total=len(clips), unit="clip") as task:
            for row, clip in enumerate(clips):
                _write(data / part / clip.name, clip, [seed, part == "test", row])
                task.advance()
    labels = pd.DataFrame(
        {
            "video_name": [clip.name for clip in train],
            "target": [int(bool(clip.forgery)) for clip in train],
            "person": [clip.person for clip in train],
        }
    )
    write_text(data / "train.csv", labels.to_csv(index=False))
    sample = pd.DataFrame({"video_name": [clip.name for clip in test], "y_pred": 0.5})
    write_text(data / "sample_submission.csv", sample.to_csv(index=False))
    if not (folder / "dfens.toml").exists():
        write_text(folder / "dfens.toml", recipe_text("demo-av"))
    truth = pd.DataFrame(
        {
            "video_name": [clip.name for clip in (*train, *test)],
            "target": [int(bool(clip.forgery)) for clip in (*train, *test)],
            "forgery": [clip.forgery for clip in (*train, *test)],
        }
    )
    write_text(folder / TRUTH, truth.to_csv(index=False))  # written last, as the sign of completion


def _plan(part: str, rows: int, seed: int) -> list[_Clip]:
    """Plan the clips: half are fakes, alternating between the three kinds, in random order."""
    rng = np.random.default_rng([seed, part == "test", 1])
    kinds = ["" if row % 2 else FORGERIES[row // 2 % 3] for row in range(rows)]
    order = rng.permutation(rows)
    silent = rng.random(rows) < _WITHOUT_SOUND
    names = [hashlib.md5(f"{seed}-{part}-{row}".encode(), usedforsecurity=False).hexdigest() for row in range(rows)]
    clips = []
    for row in range(rows):
        forgery = kinds[order[row]]
        has_sound = forgery in ("voice", "slip") or not silent[row]
        clips.append(_Clip(f"{names[row]}.mp4", f"{part}-{row // _CLIPS_PER_PERSON:04d}", forgery, has_sound))
    return clips


def _write(path: Path, clip: _Clip, seed: Sequence[int]) -> None:
    rng = np.random.default_rng(seed)
    person = draw_person(np.random.default_rng([seed[0], seed[1], 2, seed[2] // _CLIPS_PER_PERSON]))
    slip = int(rng.uniform(*_SLIP_S) * rng.choice([-1, 1]) * SAMPLE_RATE) if clip.forgery == "slip" else 0
    # every clip is cut from a longer talk, so that a slip leaves no other trace than the slip
    margin, count = round(_SLIP_S[1] * SAMPLE_RATE), round(SECONDS * SAMPLE_RATE)
    loudness = draw_speech(rng, count + 2 * margin)
    sound = draw_voice(loudness, rng, synthetic=clip.forgery == "voice")[margin + slip :][:count]
    frames = draw_talking(person, loudness[margin:][:count], rng, seam=clip.forgery == "seam")
    write_clip(path, frames, RATE, sound.astype(np.float32) if clip.has_sound else None, SAMPLE_RATE, _ENCODING)


def draw_speech(rng: np.random.Generator, count: int) -> Samples:
    """Return the loudness of speech, 0 to 1, (count,), one value per sample: words of 0.2 to 0.5 s with pauses."""
    loudness = np.zeros(count)
    at = int(rng.uniform(0, 0.3) * SAMPLE_RATE)
    while at < count:
        length = int(rng.uniform(0.2, 0.5) * SAMPLE_RATE)
        word = np.sin(np.linspace(0, np.pi, length)) ** 0.5 * rng.uniform(0.7, 1.0)
        loudness[at : at + length] = word[: count - at]
        at += length + int(rng.uniform(0.2, 0.5) * SAMPLE_RATE)
    return loudness


def draw_voice(loudness: Samples, rng: np.random.Generator, *, synthetic: bool) -> Samples:
    """Return a voice: harmonics of a wavering pitch through three resonances, breath and room noise.

    A synthetic one has a pitch that hardly wavers, and no breath above 5 kHz.
    """
    count = len(loudness)
    time = np.arange(count) / SAMPLE_RATE
    waver = np.cumsum(rng.normal(0, 1, count // 160 + 2)) * (0.1 if synthetic else 1.0)
    drift = np.interp(np.arange(count), np.arange(len(waver)) * 160, waver - waver.mean())
    pitch = rng.uniform(95, 220) * (
        1 + 0.02 * np.clip(drift, -6, 6) + 0.02 * np.sin(2 * np.pi * rng.uniform(4, 6) * time)
    )
    if synthetic:
        pitch = np.full(count, pitch.mean()) + 0.02 * (pitch - pitch.mean())
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formants = rng.uniform([400, 1100, 2300], [700, 1600, 2800])
    voice = np.zeros(count)
    for harmonic in range(1, 25):
        frequency = harmonic * pitch.mean()
        level = sum(1 / (1 + ((frequency - formant) / 150) ** 2) for formant in formants) + 0.05
        voice += level / harmonic**0.5 * np.sin(harmonic * phase)
    breath = rng.normal(0, 1, count)
    if synthetic:
        kernel = np.hanning(9)
        breath = np.convolve(breath, kernel / kernel.sum(), "same")
    sound = loudness * (voice / np.abs(voice).max() + 0.06 * breath)
    return np.asarray(0.4 * rng.uniform(0.5, 1.0) * sound + 0.002 * rng.normal(0, 1, count))


def draw_talking(person: Person, loudness: Samples, rng: np.random.Generator, *, seam: bool) -> list[Image]:
    """Return the frames of a slightly moving person whose mouth follows the loudness.

    With a seam, the face is pasted in: its outline and brightness change from frame to frame.
    """
    count = round(SECONDS * RATE)
    pose = int(rng.integers(1 << 31))
    steps = [draw_face(person, np.random.default_rng(pose), _SIZE, mouth) for mouth in (0.0, 0.5, 1.0)]
    sway = np.cumsum(rng.normal(0, 0.35, (count, 2)), 0)
    frames = []
    for index in range(count):
        start = round((index + 0.5) * SAMPLE_RATE / RATE)
        mouth = 2 * float(loudness[start : start + 400].mean())
        low = min(1, int(mouth))  # drawing is slow, so frames are interpolated between three drawn ones
        image = cv2.addWeighted(steps[low], low + 1 - mouth, steps[low + 1], mouth - low, 0)
        if seam:
            image = _paste_face(np.asarray(image, np.uint8), rng)
        shift = np.array([[1, 0, sway[index, 0]], [0, 1, sway[index, 1]]])
        moved = cv2.warpAffine(image, shift, (_SIZE, _SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        noise = rng.normal(0, 2.0, moved.shape)
        frames.append(np.asarray(np.clip(moved + noise, 0, 255), np.uint8))
    return frames


def _paste_face(image: Image, rng: np.random.Generator) -> Image:
    """Paste a modified copy of the face over itself, with an edge that is sharp in places."""
    mask = np.zeros((_SIZE, _SIZE), np.float32)
    axes = rng.normal([0.25 * _SIZE, 0.31 * _SIZE], 0.8)
    centre = round(0.5 * _SIZE), round(0.53 * _SIZE)
    cv2.ellipse(mask, centre, (int(axes[0]), int(axes[1])), rng.normal(0, 4), 0, 360, 1.0, -1)
    edge = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None]
    changed = image * rng.normal(1, 0.12, 3) + rng.normal(0, 8)
    shifted = np.roll(changed, rng.integers(-1, 2, 2), (0, 1))
    return np.asarray(np.clip(image * (1 - edge) + shifted * edge, 0, 255), np.uint8)
