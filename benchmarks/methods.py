"""Measure degradation chains and methods of 2025 and 2026 on generated faces, with small networks from scratch.

    OMP_NUM_THREADS=1 python -m benchmarks methods [degrade reals transfer residual noise cost] [--seeds 3] [--rows 480]

Faces of `dfens.demo.faces` at 64 px, with fakes of four kinds. `seam`: blended with a modified copy of itself. `grid`:
halved in size, enlarged by repeating pixels and mixed with the original, which simulates the upsampling of a generator.
`patch`: a soft region is smoothed, which simulates inpainting. `swap`: the centre of another face is pasted in. Each
face, real or fake, is then saved as JPEG of quality 90 to 97. All images of a person are in the same fold, and no
person is in both the training and the test set.

degrade: robustness curves of one network with and without chains. reals: training on reals and self-blended fakes
compared with training on fakes, tested on known and unknown kinds of fakes. transfer: a small network, pretrained here
on one pair of kinds, fine-tuned on few faces of another with several methods. residual: the same with a transformer,
for Effort. noise: random labels, so the interval of the OOF AUC should contain 0.5. cost: processor time of the
operations of a chain at 256 px.

Scores are those of the mean logit over the seeds; differences to the first line are paired, with DeLong's 95 %
intervals.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from competitions import World, make_store, read_faces
from measure import machine, make_pictures
from numpy.typing import NDArray

from dfens.demo.faces import draw_face, draw_person
from oof.metrics import roc_auc
from oof.metrics.intervals import difference, score_interval
from trainers.analysis.robustness import robustness_curves
from trainers.augment.pipeline import augment_batch, augment_image, sample_params
from trainers.augment.random_streams import ImageRandom
from trainers.augment.self_blend import self_blend
from trainers.augment.settings import AugmentSettings, DegradeSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.arrays import Image
from trainers.media.image import decode_image
from trainers.train import train_models

_SIZE = 64
_K = 2
_FOLDS = [0]  # number of folds to train, 0 for all; set by main
_CNN: dict[str, Any] = {
    "backbone": "test_resnet", "pretrained": False, "inputs": ("ycbcr", "srm"), "image_size": _SIZE, "epochs": 12,
    "batch_size": 32, "lr": 3e-3, "color_jitter": 0.3, "tta": "none",
}  # fmt: skip
_VIT: dict[str, Any] = {
    "backbone": "test_vit", "backbone_options": {"patch_size": 8}, "image_size": _SIZE, "batch_size": 32, "lr": 1e-3,
    "color_jitter": 0.3, "weight_decay": 0.0, "grad_clip": 1.0, "tta": "none",
}  # fmt: skip


def grid(image: Image, rng: np.random.Generator) -> Image:
    """Halve the image, enlarge it by repeating pixels, and mix it with the original."""
    half = cv2.resize(image, (_SIZE // 2, _SIZE // 2), interpolation=cv2.INTER_AREA)
    back = cv2.resize(half, (_SIZE, _SIZE), interpolation=cv2.INTER_NEAREST)
    share = rng.uniform(0.25, 0.5)
    return np.asarray(cv2.addWeighted(image, 1 - share, back, share, 0), np.uint8)


def soft_region(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a mask from 0 to 1 of a soft ellipse somewhere in the face."""
    mask = np.zeros((_SIZE, _SIZE), np.float32)
    middle = tuple(int(value) for value in rng.uniform(0.4, 0.6, 2) * _SIZE)
    axes = tuple(int(value) for value in rng.uniform(0.15, 0.25, 2) * _SIZE)
    cv2.ellipse(mask, middle, axes, 0, 0, 360, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 2.5), np.float32)


def patch(image: Image, rng: np.random.Generator) -> Image:
    """Smooth a soft region."""
    mask = soft_region(rng)[..., None]
    smooth = cv2.GaussianBlur(image, (0, 0), rng.uniform(1.0, 1.8)).astype(np.float32)
    return np.asarray(np.rint(image + mask * (smooth - image)), np.uint8)


def swap(image: Image, rng: np.random.Generator) -> Image:
    """Paste in the centre of another face."""
    other = draw_face(draw_person(rng), rng, _SIZE).astype(np.float32)
    mask = soft_region(rng)[..., None]
    return np.asarray(np.rint(image + mask * (other - image)), np.uint8)


KINDS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "seam": lambda image, rng: self_blend(image, rng)[0],
    "grid": grid,
    "patch": patch,
    "swap": swap,
}


@dataclass(frozen=True, eq=False)
class FakesWorld(World):
    """A competition, the kind of each test row ("" for a real), and the folds to train."""

    kinds: NDArray[np.object_]
    folds: Sequence[int]


def make_world(folder: Path, kinds: Sequence[str], *, rows: int, seed: int, test_rows: int = 480) -> FakesWorld:
    """Generate a competition whose training fakes are of the given kinds and whose test fakes are of all four."""
    rng = np.random.default_rng(seed)
    train = _draw(folder / "train", rows, kinds, rng)
    test = _draw(folder / "test", test_rows, list(KINDS), rng)
    train.to_csv(folder / "train.csv", index=False)
    test.assign(y_pred=0.5)[["id", "y_pred"]].to_csv(folder / "sample_submission.csv", index=False)
    competition = read_faces(folder, "id")
    store = make_store(folder / "oof", competition, k=_K, seed=seed)
    return FakesWorld(competition, store, folder, test["kind"].to_numpy(object), range(_FOLDS[0] or _K))


def _draw(folder: Path, rows: int, kinds: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    folder.mkdir(parents=True)
    target = rng.permutation(np.arange(rows) % 2)
    found, person = [], draw_person(rng)
    for row in range(rows):
        if row % 4 == 0:
            person = draw_person(rng)
        image = draw_face(person, rng, _SIZE)
        kind = kinds[int(rng.integers(len(kinds)))] if target[row] else ""
        image = KINDS[kind](image, rng) if kind else image
        name = f"{folder.name}-{row:05d}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(90, 98))]
        (folder / name).write_bytes(cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes())
        found.append((name, int(target[row]), f"{folder.name}-{row // 4}", kind))
    return pd.DataFrame(found, columns=["id", "target", "person", "kind"])


def logits(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    clipped = np.clip(values, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(clipped / (1 - clipped)))


def train_seeds(world: FakesWorld, models: Mapping[str, dict[str, Any]], seeds: int) -> dict[str, list[str]]:
    """Train each model with each seed; return the names of the seeds of each model."""
    jobs = {
        f"{name}-{seed}": TimmSettings(**{**settings, "seed": seed})
        for name, settings in models.items()
        for seed in range(seeds)
    }
    train_models(world.job(jobs), world.folds)
    return {name: [f"{name}-{seed}" for seed in range(seeds)] for name in models}


def mean_logits(world: FakesWorld, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return OOF and test predictions of a model: the mean logit over its seeds."""
    loaded = [world.store.load(name) for name in names]
    test = []
    for model in loaded:
        assert model.test_by_fold is not None
        test.append(logits(model.test_by_fold).mean(0))
    return np.mean([logits(model.oof) for model in loaded], 0), np.mean(test, 0)


def show_scores(world: FakesWorld, found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """Print OOF AUC and test AUC by kind of fake, each with its paired difference to the first line."""
    print(f"| model | OOF | {' | '.join(f'test: {kind}' for kind in KINDS)} | all test fakes |")
    print("|---|---:|" + "---:|" * (len(KINDS) + 1))
    y, first = (world.kinds != "").astype(np.int8), next(iter(found.values()))
    held_out = np.isin(world.store.folds.fold, list(world.folds))
    for oof, test in found.values():
        parts = [(world.store.folds.target[held_out], oof[held_out], first[0][held_out])]
        for kind in KINDS:
            rows = np.isin(world.kinds, ["", kind])
            parts.append((y[rows], test[rows], first[1][rows]))
        parts.append((y, test, first[1]))
        cells = []
        for labels, scores, reference in parts:
            cell = f"{roc_auc(labels, scores):.3f}"
            if scores is not reference and not np.array_equal(scores, reference):
                gain = difference("auc", labels, scores, reference)
                cell += f" ({gain.gain:+.3f}: {gain.low:+.3f} to {gain.high:+.3f})"
            cells.append(cell)
        name = next(key for key, value in found.items() if value[0] is oof)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def degrade(folder: Path, seeds: int, rows: int) -> None:
    """Print robustness curves of one network with single degradations and with chains."""
    world = make_world(folder, list(KINDS), rows=rows, seed=1)
    models = {
        "none": _CNN,
        "jpeg, blur, noise, downscale 0.3 each": {**_CNN, **dict.fromkeys(("jpeg", "blur", "noise", "downscale"), 0.3)},
        "degrade 0.7": {**_CNN, "degrade": DegradeSettings(probability=0.7)},
    }
    short = {f"m{place}": settings for place, settings in enumerate(models.values())}
    names = train_seeds(world, short, seeds)
    every = [name for group in names.values() for name in group]
    settings = {name: TimmSettings(**{**short[name.split("-")[0]], "seed": int(name[-1])}) for name in every}
    points = robustness_curves(world.job(settings), rows=min(rows, 240))
    conditions = list(dict.fromkeys((point.corruption, point.severity) for point in points))
    auc = {(point.model, point.corruption, point.severity): point.auc for point in points}
    print(f"| held-out images | {' | '.join(models)} |\n|---|{'---:|' * len(models)}")
    table = np.array([[[auc[name, *at] for name in names[key]] for key in names] for at in conditions])
    for at, line in zip(conditions, table, strict=True):
        print(f"| {at[0]} {at[1]:g} | {' | '.join(map(_mean_and_spread, line))} |")
    print(f"| mean of the {len(conditions) - 1} damaged | {' | '.join(map(_mean_and_spread, table[1:].mean(0)))} |")


def _mean_and_spread(values: NDArray[np.float64]) -> str:
    """Format the mean over the seeds, with the standard deviation if there are several."""
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def reals(folder: Path, seeds: int, rows: int) -> None:
    """Compare training on reals and self-blended fakes with training on fakes of one kind."""
    world = make_world(folder, ["grid"], rows=rows, seed=2)
    models = {
        "fakes": _CNN,
        "both": {**_CNN, "self_blend": 0.3},
        "reals": {**_CNN, "self_blend": 0.5, "reals_only": True, "epochs": 2 * _CNN["epochs"]},
    }
    names = train_seeds(world, models, seeds)
    found = {name: mean_logits(world, group) for name, group in names.items()}
    (oof, test), (other_oof, other_test) = found["fakes"], found["reals"]
    found["mean of fakes and reals"] = (_ranks(oof) + _ranks(other_oof), _ranks(test) + _ranks(other_test))
    show_scores(world, found)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks in [0, 1); rows without a prediction come last."""
    return np.asarray(values.argsort().argsort() / len(values))


def transfer(folder: Path, seeds: int, rows: int) -> None:
    """Fine-tune a network pretrained on two kinds of fakes on a few faces of another kind, with several methods."""
    before = make_world(folder / "before", ["grid", "patch"], rows=2 * rows, seed=3, test_rows=8)
    train_models(before.job({"net": TimmSettings(**_CNN)}), [0])
    oof, inside = before.store.load("net").oof, before.store.folds.fold == 0
    auc = roc_auc(before.store.folds.target[inside], oof[inside])
    print(f"Pretrained on grid and patch: held-out AUC {auc:.3f}\n", flush=True)
    world = make_world(folder / "after", ["seam"], rows=rows, seed=4)
    net = {**_CNN, "pretrained": str(before.folder / "work" / "net" / "fold0" / "weights.safetensors")}
    l2 = {"feature_norm": "l2", "head_lr": 10.0}
    models = {
        "from scratch": _CNN,
        "all": {**net, "lr": 1e-3},
        "norm": {**net, "trainable": "norm"},
        "norm, l2": {**net, "trainable": "norm", **l2},
        "norm, l2, alignment, uniformity": {**net, "trainable": "norm", **l2, "alignment": 0.1, "uniformity": 0.5},
        "head": {**net, "trainable": "head"},
        "head, layer": {**net, "trainable": "head", "feature_norm": "layer"},
        "head, l2": {**net, "trainable": "head", **l2},
        "head, batch": {**net, "trainable": "head", "feature_norm": "batch"},
    }
    names = train_seeds(world, {f"m{place}": settings for place, settings in enumerate(models.values())}, seeds)
    show_scores(world, {name: mean_logits(world, group) for name, group in zip(models, names.values(), strict=True)})


def residual(folder: Path, seeds: int, rows: int) -> None:
    """Fine-tune a small transformer, pretrained on two kinds of fakes, on a third, with Effort and other methods."""
    before = make_world(folder / "before", ["grid", "swap"], rows=8 * rows, seed=5, test_rows=8)
    vit = {**_VIT, "inputs": ("ycbcr", "srm"), "epochs": 12}
    train_models(before.job({"net": TimmSettings(**{**vit, "pretrained": False, "epochs": 40})}), [0])
    oof, inside = before.store.load("net").oof, before.store.folds.fold == 0
    auc = roc_auc(before.store.folds.target[inside], oof[inside])
    print(f"Pretrained on grid and swap: held-out AUC {auc:.3f}\n", flush=True)
    world = make_world(folder / "after", ["patch"], rows=rows, seed=6)
    weights = str(before.folder / "work" / "net" / "fold0" / "weights.safetensors")
    net = {**vit, "pretrained": weights}
    models = {
        "all": net,
        "all, a tenth of the rate": {**net, "lr": 1e-4},
        "head": {**net, "trainable": "head"},
        "norm": {**net, "trainable": "norm"},
        "residual, rank 1": {**net, "trainable": "residual"},
        "residual, rank 8": {**net, "trainable": "residual", "residual_rank": 8},
    }
    names = train_seeds(world, {f"m{place}": settings for place, settings in enumerate(models.values())}, seeds)
    show_scores(world, {name: mean_logits(world, group) for name, group in zip(models, names.values(), strict=True)})


def noise(folder: Path, seeds: int, rows: int) -> None:
    """Train on random labels, and count the seeds whose interval of the OOF AUC contains 0.5."""
    vit = {**_VIT, "pretrained": False, "epochs": 4}
    models: dict[str, dict[str, Any]] = {
        "degrade": {**_CNN, "epochs": 4, "degrade": DegradeSettings(probability=0.7)},
        "reals_only": {**_CNN, "epochs": 4, "self_blend": 0.5, "reals_only": True},
        "GenD": {**vit, "trainable": "norm", "feature_norm": "l2", "alignment": 0.1, "uniformity": 0.5},
        "Effort": {**vit, "trainable": "residual"},
        "head, batch": {**vit, "trainable": "head", "feature_norm": "batch"},
    }
    aucs: dict[str, list[float]] = {name: [] for name in models}
    held: dict[str, int] = dict.fromkeys(models, 0)
    for seed in range(seeds):
        world = make_world(folder / str(seed), list(KINDS), rows=rows, seed=10 + seed, test_rows=8)
        y = np.random.default_rng(seed).permutation(world.store.folds.target)
        train = world.competition.train.set_index("id").loc[list(world.store.folds.ids)].assign(target=y).reset_index()
        competition = dataclasses.replace(world.competition, train=train)
        store = make_store(world.folder / "noise", competition, k=_K, seed=seed)  # stratified, as in dfens folds
        drawn = dataclasses.replace(world, competition=competition, store=store)
        short = {f"m{place}": settings for place, settings in enumerate(models.values())}
        names = train_seeds(drawn, short, 1)
        for name, group in zip(models, names.values(), strict=True):
            oof = mean_logits(drawn, group)[0]
            held_out = ~np.isnan(oof)
            interval = score_interval("auc", y[held_out], oof[held_out])
            aucs[name].append(interval.score)
            held[name] += interval.low <= 0.5 <= interval.high
    print("| method | mean OOF AUC | its standard error | intervals that contain 0.5 |\n|---|---:|---:|---:|")
    for name, values in aucs.items():
        error = np.std(values, ddof=1) / np.sqrt(seeds)
        print(f"| {name} | {np.mean(values):.3f} | {error:.3f} | {held[name]} of {seeds} |")


def cost(folder: Path, seeds: int, rows: int) -> None:
    """Measure the processor time of each operation of a chain in milliseconds per image, alone and in batches."""
    size, count = 256, 16
    (path,) = make_pictures(folder, 1, size)
    image = decode_image(path)
    batch = torch.from_numpy(np.stack([image] * count))
    plain = AugmentSettings(hflip=0.5, translate=0.5, color_jitter=0.5)
    chains = {
        name: DegradeSettings(probability=1.0, operations=(name,), length=1) for name in DegradeSettings().operations
    }
    settings_of = {"without a chain": plain}
    settings_of |= {name: dataclasses.replace(plain, degrade=chain) for name, chain in chains.items()}
    settings_of["chain of up to 4"] = dataclasses.replace(plain, degrade=DegradeSettings(probability=1.0))
    print("| operation | ms per image | ms per image in a batch |\n|---|---:|---:|")
    for name, settings in settings_of.items():
        times: dict[str, list[float]] = {"image": [], "batch": []}
        for repeat in range(seeds + 1):
            params = [sample_params(settings, size, size, ImageRandom(repeat, 0, f"r{row}")) for row in range(count)]
            on_device = [one for one in params if not one.needs_host]
            started = time.process_time()
            for one in params:
                augment_image(image, one, size)
            times["image"].append((time.process_time() - started) / count)
            started = time.process_time()
            if on_device:
                augment_batch(batch[: len(on_device)], on_device, size)
            times["batch"].append((time.process_time() - started) / max(1, len(on_device)))
        alone, together = (1e3 * np.median(values[1:]) for values in times.values())
        print(f"| {name} | {alone:.2f} | {'-' if name == 'webp' else f'{together:.2f}'} |")


PARTS: dict[str, Callable[[Path, int, int], None]] = {
    "degrade": degrade,
    "reals": reals,
    "transfer": transfer,
    "residual": residual,
    "noise": noise,
    "cost": cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=480, help="training rows")
    parser.add_argument("--folds", type=int, default=0, help="number of folds to train, 0 for all")
    parser.add_argument("--epochs", type=int, default=_CNN["epochs"], help="epochs of the convolutional networks")
    options = parser.parse_args()
    _FOLDS[0] = options.folds
    _CNN["epochs"] = options.epochs
    print(machine(torch.device("cpu")))
    for name in options.part:
        which = f"{options.rows} training rows, {options.seeds} seeds, {options.epochs} epochs"
        print(f"\n### {name}: {which}, {options.folds or 'all'} folds\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder), options.seeds, options.rows)


if __name__ == "__main__":
    main()
