"""Compare the extraction of clips with other methods of reading them: python -m benchmarks.extract [COUNT | FOLDER].

Each method reads the same generated clips (300 frames of 480 x 270 px, H.264 with a key frame every 25 frames, 10 s of
AAC) in one thread; methods take turns, several times. Figures are processor time (user and system, with that of child
processes), medians of one run, so that other work on the machine hardly changes their ratios. Methods that are not
installed are left out. With a FOLDER, its clips are measured instead, one by one: the share of the time spent in the
decoder, and how many times as fast as all frames 16 of them are read.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.features.extract import extract_clip
from trainers.features.mel import log_mel
from trainers.features.settings import ExtractSettings, MelSettings
from trainers.media.audio import audio_stream, read_audio
from trainers.media.clip_info import open_clip
from trainers.media.clip_record import encode_record
from trainers.media.clip_writer import Encoding, write_clip
from trainers.media.video import frame_times, picture_span, read_frames, video_stream

FRAMES, RATE, SECONDS = 300, 30, 10
SETTINGS = ExtractSettings(frames=16, key_frames=4, frame_size=224, frame_format="jpeg")
ROUNDS = 3
KEY_INTERVALS = (1, 6, 12, 25, 50, 250)  # frames


def make_clips(folder: Path, count: int, key_interval: int = 25) -> list[Path]:
    """Generate clips of moving textures with noise and a voice-like sound, with a key frame every `key_interval`."""
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        scene = cv2.resize(rng.integers(0, 255, (34, 60, 3), np.uint8), (480, 270), interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(-6, 7, (8, 270, 480, 1))
        images = (
            np.clip(np.roll(scene, 2 * index, 1).astype(int) + noise[index % 8], 0, 255).astype(np.uint8)
            for index in range(FRAMES)
        )
        t = np.arange(SECONDS * 16_000) / 16_000
        sound = (0.2 * np.sin(2 * np.pi * 180 * t) * (1 + np.sin(6 * t))).astype(np.float32)
        encoding = Encoding(options={"crf": "23", "preset": "medium", "g": str(key_interval)})
        paths.append(write_clip(folder / f"{number} of {key_interval}.mp4", images, RATE, sound, encoding=encoding))
    return paths


def dfens(path: Path) -> None:
    """Read frames, key frames, sound and spectrogram as dfens does, in one pass for each stream."""
    encode_record(extract_clip(str(path), SETTINGS), "jpeg")


def decode_per_feature(path: Path) -> None:
    """Read the same features with PyAV, each with its own full decode."""
    wanted = set(np.linspace(0, FRAMES - 1, 16).astype(int).tolist())
    for chosen in (lambda index, frame: index in wanted, lambda index, frame: frame.key_frame):
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for index, frame in enumerate(container.decode(video=0)):
                image = frame.to_ndarray(format="rgb24")
                if chosen(index, frame):
                    _stored(image)
    for _ in range(2):  # sound, and sound again for the spectrogram
        with open_clip(path) as container:
            stream = audio_stream(container)
            assert stream is not None
            sound = read_audio(container, stream)
    log_mel(sound.samples, SETTINGS.mel)


def dfens_frames(path: Path) -> None:
    """Read 16 of 300 frames."""
    with open_clip(path) as container:
        stream = video_stream(container)
        assert stream is not None
        for frame in read_frames(container, stream, frame_times(16, *picture_span(container, stream))):
            _stored(frame.image)


def dfens_all_frames(path: Path) -> None:
    """Decode and convert all frames, and keep one of 19."""
    with open_clip(path) as container:
        stream = video_stream(container)
        assert stream is not None
        frames = read_frames(container, stream, frame_times(stream.frames, *picture_span(container, stream)))
        for index, frame in enumerate(frames):
            if index % 19 == 0:
                _stored(frame.image)


def opencv_loop(path: Path) -> None:
    """Read every frame and keep 16, as in most notebooks."""
    wanted = set(np.linspace(0, FRAMES - 1, 16).astype(int).tolist())
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    index = 0
    while True:
        found, image = capture.read()
        if not found:
            break
        if index in wanted:
            _stored(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        index += 1
    capture.release()


def baseline(path: Path) -> None:
    """Read a clip like the organisers' baseline: frames by moviepy, sound through a wav file by librosa."""
    import librosa
    from moviepy import VideoFileClip

    with tempfile.TemporaryDirectory() as folder, VideoFileClip(str(path)) as clip:
        wav = Path(folder) / "sound.wav"
        clip.audio.write_audiofile(str(wav), logger=None)
        samples, rate = librosa.load(str(wav))
        librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate, n_mels=128), ref=np.max)
        for seconds in frame_times(16, 0.0, float(SECONDS)):
            _stored(clip.get_frame(seconds))


def torchcodec_frames(path: Path) -> None:
    """Read 16 of 300 frames with torchcodec."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, dimension_order="NHWC")
    for image in decoder.get_frames_at(np.linspace(0, FRAMES - 1, 16).astype(int).tolist()).data.numpy():
        _stored(image)


def _stored(image: Any) -> None:
    side = min(image.shape[:2])
    small = cv2.resize(image[:side, :side], (224, 224), interpolation=cv2.INTER_AREA)
    cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])


METHODS: dict[str, Callable[[Path], None]] = {
    "dfens: frames, key frames, sound, mel": dfens,
    "(a) a decode for each feature": decode_per_feature,
    "(c) moviepy + librosa, 16 frames and mel": baseline,
    "dfens: 16 of 300 frames": dfens_frames,
    "dfens: all 300 frames": dfens_all_frames,
    "(b) OpenCV loop, 16 of 300 frames": opencv_loop,
    "(d) torchcodec, 16 of 300 frames": torchcodec_frames,
}


def processor_s() -> float:
    """Return the processor time of this process and its finished child processes, in seconds."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def decoder_share(paths: list[Path]) -> float:
    """Return the share of dfens's time spent on demultiplexing and decoding."""
    import trainers.features.extract as extract
    import trainers.media.video as video

    spent = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def generator(*arguments: Any) -> Any:
            items = iter(function(*arguments))
            while True:
                start = time.thread_time()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    spent[0] += time.thread_time() - start
                yield item

        return generator

    plain, read = video._Reader._decode, read_audio

    def timed_sound(*arguments: Any, **options: Any) -> Any:
        start = time.thread_time()
        try:
            return read(*arguments, **options)
        finally:
            spent[0] += time.thread_time() - start

    video._Reader._decode = timed(plain)  # type: ignore[method-assign]
    vars(extract)["read_audio"] = timed_sound
    try:
        start = time.thread_time()
        for path in paths:
            dfens(path)
        return spent[0] / (time.thread_time() - start)
    finally:
        video._Reader._decode = plain  # type: ignore[method-assign]
        vars(extract)["read_audio"] = read


def sparse_ratios(folder: Path) -> dict[int, float]:
    """Return how many times as fast 16 of 300 frames are read as all, by the number of frames between key frames."""
    return {key_interval: sparse_ratio(make_clips(folder, 2, key_interval)) for key_interval in KEY_INTERVALS}


def sparse_ratio(paths: list[Path]) -> float:
    """Return how many times as fast 16 frames of each clip are read as all frames."""
    seconds: dict[str, list[float]] = {"some": [], "all": []}
    for path in paths:
        for _ in range(ROUNDS):
            for name, method in (("some", dfens_frames), ("all", dfens_all_frames)):
                start = processor_s()
                method(path)
                seconds[name].append(processor_s() - start)
    return statistics.median(seconds["all"]) / statistics.median(seconds["some"])


def peak_memory(folder: Path) -> list[int]:
    """Return the peak memory in MiB of a process that extracts 1,000 small clips, after 100, 500 and all of them."""
    kinds = [
        write_clip(folder / f"kind {number}.mp4", _small(number), 12, np.zeros(16_000, np.float32))
        for number in range(20)
    ]
    for number in range(1_000):
        free = b"free" + number.to_bytes(4, "big")  # an empty box at the end, so that no two files are alike
        data = kinds[number % 20].read_bytes() + (4 + len(free)).to_bytes(4, "big") + free
        (folder / f"{number:04}.mp4").write_bytes(data)
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom trainers.features.clips import extract_clips\n"
        "from trainers.features.settings import ExtractSettings\n"
        "folder = Path(sys.argv[1])\npaths = sorted(map(str, folder.glob('????.mp4')))\n"
        "for count in (100, 500, 1000):\n"
        "    extract_clips(paths[:count], ExtractSettings(frame_format='jpeg'), folder / 'work', folder, threads=2)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def _small(number: int) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(number)
    return (rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(24))


def measure_folder(folder: Path) -> None:
    """Print the share of the decoder and the ratio of sparse reading for each clip of a folder, and their medians."""
    shares, ratios = [], []
    for path in sorted(folder.rglob("*.mp4")):
        shares.append(decoder_share([path] * ROUNDS))
        ratios.append(sparse_ratio([path]))
        print(f"{path.name:30} decoder {shares[-1]:.0%}, 16 frames {ratios[-1]:.1f} times as fast as all")
    print(f"{'median':30} decoder {statistics.median(shares):.0%}, 16 frames {statistics.median(ratios):.1f} times")


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    log_mel(np.zeros(16_000, np.int16), MelSettings())
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        measure_folder(Path(sys.argv[1]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder), count)
        found: dict[str, list[float]] = {}
        methods = dict(METHODS)
        for name, method in METHODS.items():
            try:
                method(paths[0])
            except (ImportError, RuntimeError, OSError) as err:
                print(f"{name}: left out ({str(err).splitlines()[0][:90]})")
                del methods[name]
        for _ in range(ROUNDS):
            for path in paths:
                for name, method in methods.items():
                    start = processor_s()
                    method(path)
                    found.setdefault(name, []).append(processor_s() - start)
        for name, seconds in found.items():
            print(f"{name:45} {1 / statistics.median(seconds):7.2f} clips per second of processor time")
        print(f"share of dfens's time spent in the decoder: {decoder_share(paths):.0%}")
        for key_interval, ratio in sparse_ratios(Path(folder)).items():
            print(f"16 of 300 frames with a key frame every {key_interval}: {ratio:.1f} times as fast as all")
        small = Path(folder) / "small"
        small.mkdir()
        print("peak memory after 100, 500 and 1,000 clips: {} / {} / {} MiB".format(*peak_memory(small)))


if __name__ == "__main__":
    main()
