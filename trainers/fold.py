"""One fold of a timm model: train on the other folds, resume from any moment, predict with test-time augmentation."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oof.errors import TrainingError
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress, Task
from trainers import checkpoint
from trainers.augment import augment, sample_rng
from trainers.images import Images, Rows
from trainers.model import create_model
from trainers.settings import TimmSettings
from trainers.stop import StopRequest
from trainers.tta import predict

_SAVE_EVERY_S = 60.0
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, as most backbones were trained


@dataclass
class FoldHistory:
    """What happened epoch by epoch: mean training loss and validation AUC."""

    loss: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class FoldOutcome:
    """A trained fold.

    oof: (n_valid,) probability of the rows that were held out. test: (n_test,). epoch: which one's weights
    predicted (from 1). steps_run: steps done in this run, 0 where all had been done before.
    """

    oof: NDArray[np.float64]
    test: NDArray[np.float64]
    weights: dict[str, Tensor]
    history: FoldHistory
    epoch: int
    seconds: float
    images_per_s: float


class FoldTrainer:
    """Trains one fold; its whole state lies in `state_path` at the end of each epoch and every minute.

    On a CPU the numbers are the same to the last bit for the same seed, thread count and
    machine, also when the process was killed in between: the order of the rows and every
    augmentation are drawn from (seed, epoch, id), not from what was drawn before.
    """

    def __init__(
        self,
        settings: TimmSettings,
        fold: int,
        train: Rows,
        state_path: Path,
        device: torch.device,
        root: Path = Path(),
    ) -> None:
        self.settings = settings
        self.train = train
        self.state_path = state_path
        self.device = device
        self.seed = settings.seed * 1000 + fold
        torch.manual_seed(self.seed)
        self.model = create_model(settings, root).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = torch.tensor(_MEAN, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(_STD, device=device).view(1, 3, 1, 1) * 255
        decayed = [value for value in self.model.parameters() if value.ndim > 1]
        others = [value for value in self.model.parameters() if value.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.lr,
            fused=True if device.type == "cuda" else None,
            foreach=None if device.type == "cuda" else True,
        )
        self.amp = _amp_type(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp is torch.float16)
        self.averaged = [value.detach().clone() for value in self._values()]
        self.history = FoldHistory()
        self.best: tuple[int, list[Tensor]] | None = None
        self.epoch = self.step = 0
        self.loss_sum = 0.0
        positives = float(train.target.mean())
        self.positive_weight = (1 - positives) / positives if settings.class_weight == "balanced" else 1.0

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; a last smaller one is left out, one batch is always there."""
        return max(1, len(self.train.ids) // self.settings.batch_size)

    def _values(self) -> list[Tensor]:
        """Weights and statistics that are averaged and predicted with."""
        return [value for value in self.model.state_dict().values() if value.is_floating_point()]

    # ---- training -----------------------------------------------------------

    def run(self, valid: Rows, test: Rows, title: str, progress: Progress = SILENT) -> FoldOutcome:
        """Train to the end, then predict the held-out rows and the test rows."""
        if self.state_path.exists():
            self._restore()
        begun, steps_before = time.monotonic(), self._steps_done()
        total = self.settings.epochs * self.steps_per_epoch
        with progress.task(title, total=total, unit="step") as task, StopRequest() as request:
            task.advance(steps_before)
            while self.epoch < self.settings.epochs:
                self._train_epoch(task, request)
                self._end_epoch(valid)
                if request.heard:
                    request.stop()
        seconds = time.monotonic() - begun
        images = (self._steps_done() - steps_before) * self.settings.batch_size
        epoch = self.settings.epochs
        if self.best is not None:
            epoch, values = self.best
            self._put(values)
        else:
            self._put(self.averaged)
        return FoldOutcome(
            self.predict(valid),
            self.predict(test, f"{title}: predict test", progress),
            {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()},
            self.history,
            epoch,
            seconds,
            images / max(seconds, 1e-9),
        )

    def _steps_done(self) -> int:
        return self.epoch * self.steps_per_epoch + self.step

    def _train_epoch(self, task: Task, request: StopRequest) -> None:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.train.ids))
        size = self.settings.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)][: self.steps_per_epoch]
        self.model.train()
        saved = time.monotonic()
        ahead = self.train.bank.pool.submit(self._batch, batches[self.step]) if self.step < len(batches) else None
        while self.step < len(batches):
            assert ahead is not None
            images, target = ahead.result()
            if self.step + 1 < len(batches):
                ahead = self.train.bank.pool.submit(self._batch, batches[self.step + 1])
            loss = self._train_step(images, target)
            self.step += 1
            task.advance(1, loss=f"{loss:.3f}", epoch=f"{self.epoch + 1}/{self.settings.epochs}")
            if request.heard or time.monotonic() - saved > _SAVE_EVERY_S:
                self._save()
                saved = time.monotonic()
            if request.heard:
                request.stop()

    def _batch(self, chosen: NDArray[np.intp]) -> tuple[Images, NDArray[np.float32]]:
        ids = self.train.ids[chosen]
        images = self.train.bank.take(self.train.positions[chosen])
        changed = [
            augment(image, self.settings, sample_rng(self.seed, self.epoch, id_))
            for image, id_ in zip(images, ids, strict=True)
        ]
        return np.stack(changed), self.train.target[chosen].astype(np.float32)

    def _train_step(self, images: Images, target: NDArray[np.float32]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        labels = torch.from_numpy(target).to(self.device)
        soft = labels * (1 - self.settings.label_smoothing) + self.settings.label_smoothing / 2
        weight = torch.where(labels > 0, self.positive_weight, 1.0)
        # dropout and the like draw anew from the step, so that resuming needs no stored random state
        torch.manual_seed(self.seed * 1_000_003 + self._steps_done())
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            logits = self.model(self._normalise(images)).float().flatten()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, soft, weight=weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss is {value} in epoch {self.epoch + 1}, step {self.step + 1}. Lower lr "
                f"(now {self.settings.lr:g}), or move {self.state_path} away and run the same command again."
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._average()
        self.loss_sum += value
        return value

    def _rate(self) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        done, total = self._steps_done(), self.settings.epochs * self.steps_per_epoch
        warm = round(self.settings.warmup * total)
        if done < warm:
            return self.settings.lr * (done + 1) / (warm + 1)
        return self.settings.lr * 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, total - warm)))

    def _average(self) -> None:
        """Exponential moving average of the weights; its memory grows with the steps done, up to `ema`."""
        done = self._steps_done()
        decay = min(self.settings.ema, (1 + done) / (10 + done))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, [value.detach() for value in self._values()], 1 - decay)

    def _end_epoch(self, valid: Rows) -> None:
        current = [value.detach().clone() for value in self._values()]
        self._put(self.averaged)
        self.history.auc.append(roc_auc(valid.target, self.predict(valid, tta=False)))
        self.history.loss.append(self.loss_sum / self.steps_per_epoch)
        if self.settings.keep == "best" and self.history.auc[-1] >= max(self.history.auc):
            self.best = (self.epoch + 1, [value.clone() for value in self.averaged])
        self._put(current)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        self._save()

    def _put(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._values(), list(values))

    # ---- state --------------------------------------------------------------

    def _save(self) -> None:
        checkpoint.save(
            self.state_path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "averaged": self.averaged,
                "best": None if self.best is None else list(self.best),
                "epoch": self.epoch,
                "step": self.step,
                "loss_sum": self.loss_sum,
                "loss": self.history.loss,
                "auc": self.history.auc,
            },
        )

    def _restore(self) -> None:
        state = checkpoint.load(self.state_path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.averaged = [value.to(self.device) for value in state["averaged"]]
        if state["best"] is not None:
            self.best = (state["best"][0], [value.to(self.device) for value in state["best"][1]])
        self.epoch, self.step, self.loss_sum = state["epoch"], state["step"], state["loss_sum"]
        self.history = FoldHistory(list(state["loss"]), list(state["auc"]))

    # ---- prediction ---------------------------------------------------------

    def predict(
        self, rows: Rows, title: str = "", progress: Progress = SILENT, *, tta: bool = True
    ) -> NDArray[np.float64]:
        """Probabilities of rows, shape (n_rows,); without `tta` of the plain view alone."""
        self.model.eval()
        settings = self.settings
        found = []
        with progress.task(title, total=len(rows.ids), unit="image") as task, torch.inference_mode():
            for start in range(0, len(rows.ids), settings.batch_size):
                images = rows.bank.take(rows.positions[start : start + settings.batch_size])
                with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
                    batch = self._normalise(images)
                    probability = predict(
                        self.model, batch, settings.tta if tta else "none", settings.tta_merge, settings.image_size
                    )
                found.append(probability.numpy())
                task.advance(len(images))
        return np.concatenate(found)

    def _normalise(self, images: Images) -> Tensor:
        """uint8 (batch, height, width, 3) to the device, then to normalised floats (batch, 3, height, width)."""
        batch = torch.from_numpy(images).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return ((batch.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def _amp_type(device: torch.device) -> torch.dtype | None:
    """bf16 on a CUDA device that has it, else fp16 with a scaled loss; float32 on the CPU."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
