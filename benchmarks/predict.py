"""Compare test prediction of 5 fold models x 4 views with nested loops, as a Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/predict.py [--model resnet18] [--images 16] [--repeats 5] [--device cuda]

Most notebooks use nested loops: for each fold and each view, iterate over a DataLoader of the files and add up
probabilities, so that each image is decoded 20 times (by Pillow, or by torchvision's own decoder). "In one pass":
`trainers.kinds.timm.predict.Predictor`, which decodes once, as `dfens train` does, in float32 and in bfloat16.
Networks, views and mean are the same. Each method has its own process, and methods take turns within each repeat.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from loader import Files, read_pillow, read_torchvision
from measure import (
    Budget,
    Variant,
    cpu_ratio,
    each_in_time,
    machine,
    make_pictures,
    matmul_flops,
    ratio,
    show,
    time_in_turn,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from trainers.kinds.timm.predict import Predictor
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.image_store import ImageStore, Subset
from trainers.networks.backbone import create_model
from trainers.networks.normalise import grey_mean_and_std
from trainers.runtime.device import amp_type
from trainers.runtime.settings import Precision

FOLDS, VIEWS = 5, 4
CHANGES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x,
    lambda x: x.flip(3),
    lambda x: x.flip(2),
    lambda x: x.flip(2).flip(3),
]


def naive(
    paths: list[str], models: list[nn.Module], size: int, device: torch.device, workers: int, *, pillow: bool
) -> Variant:
    """Predict with nested loops over folds and views."""
    mean, std = ((value / 255).flatten().tolist() for value in grey_mean_and_std(models[0]))
    kind = v2.InterpolationMode.BICUBIC if pillow else v2.InterpolationMode.BILINEAR
    steps = [v2.Resize((size, size), kind), *([v2.ToImage()] if pillow else [])]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    files = Files(paths, read_pillow if pillow else read_torchvision, v2.Compose(steps))
    loader = DataLoader(files, 32, num_workers=workers, pin_memory=device.type == "cuda", persistent_workers=True)
    amp = amp_type(device)

    def run() -> int:
        total = np.zeros(len(paths))
        for model in models:
            model.eval()
            for change in CHANGES:
                found = []
                with torch.inference_mode(), torch.autocast(device.type, dtype=amp, enabled=amp is not None):
                    for images, _ in loader:
                        found.append(model(change(images.to(device))).sigmoid().flatten().float().cpu())
                total += torch.cat(found).numpy() / (len(models) * VIEWS)
        return len(paths)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["resnet18", "efficientnet_b0"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="threads or processes that decode")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, help="most time; repeats and models that do not fit are left out")
    parser.add_argument("--folder", type=Path, help="folder of images, generated if empty; default temporary")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        paths = make_pictures(options.folder or Path(temporary), options.images)
        print(f"{machine(device)}\n{FOLDS} folds x {VIEWS} views of {len(paths)} JPEG of 512 px at {options.size} px, ")
        print(f"{options.repeats} repeats.")
        each_in_time(options.model, options.seconds, lambda name, budget: compare(name, paths, options, budget))


def compare(name: str, paths: list[str], options: argparse.Namespace, budget: Budget) -> None:
    """Print the table of one backbone."""
    size, repeats, workers, device = options.size, options.repeats, options.workers, torch.device(options.device)
    settings = TimmSettings(backbone=name, pretrained=False, image_size=size, tta="flips", batch_size=32)
    torch.manual_seed(0)
    models = [create_model(settings, size) for _ in range(FOLDS)]
    plain = [create_model(settings, size).to(device) for _ in range(FOLDS)]
    for one, other in zip(plain, models, strict=True):
        one.load_state_dict(other.state_dict())
    last = [model.to(device=device, memory_format=torch.channels_last) for model in models]  # type: ignore[call-overload]
    variants: dict[str, Variant] = {}
    for label, pillow in (("nested loops, Pillow", True), ("nested loops, torchvision's decoder", False)):
        variants[label] = naive(paths, plain, size, device, workers, pillow=pillow)
    rows = np.arange(len(paths))
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:

        def one_pass(precision: Precision = precision) -> int:
            store = ImageStore(paths, size, "area", workers, keep=False)
            every = Subset(store, rows, rows.astype(object), np.zeros(len(rows), np.int8))
            chosen = dataclasses.replace(settings, precision=precision)
            return sum(batch.shape[1] for batch in Predictor(chosen, last, device).subset(every, workers))

        variants[f"in one pass, {precision}"] = one_pass
    timing = time_in_turn(variants, repeats, apart=device.type == "cpu", budget=budget)
    first, second = list(timing.values())[:2]
    heads = [
        "variant",
        "images/s",
        "× nested loops (Pillow)",
        "× nested loops (torchvision)",
        "by CPU-s: × nested loops (Pillow)",
        "× (torchvision)",
    ]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        last[0].eval()(torch.zeros(1, 3, size, size, device=device))
    if device.type == "cuda":
        peak = matmul_flops(device, amp_type(device) or torch.float32)
        heads.append("MFU")
    table = []
    for label, found in timing.items():
        row = [f"{name}: {label}", f"{found.rate:.2f}", ratio(found, first), ratio(found, second)]
        row += [cpu_ratio(found, first), cpu_ratio(found, second)]
        if device.type == "cuda":
            row.append(f"{counter.get_total_flops() * FOLDS * VIEWS * found.rate / peak:.2f}")
        table.append(row)
    show(heads, table)


if __name__ == "__main__":
    main()
