"""One fold of a timm model: train on the other folds, resume from any moment, predict what was held out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oof.errors import TrainingError
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress, Task
from trainers.augment.pipeline import AugmentParams, apply, sample_params, sample_rng
from trainers.augment.pseudo_fakes import PseudoFakes, pair_partners
from trainers.kinds.timm.predict import Predictor
from trainers.kinds.timm.step import TrainState
from trainers.media.image_store import Images, Subset
from trainers.media.loader import Loader
from trainers.networks.backbone import create_model
from trainers.networks.optim import lr_at
from trainers.runtime import checkpoint
from trainers.runtime.device import is_out_of_memory
from trainers.runtime.process_group import ALONE, ProcessGroup
from trainers.runtime.signals import StopRequest
from trainers.settings import TimmSettings

_SAVE_EVERY_S = 60.0
_KEEP_EVERY = 1000  # steps between two states that a diverged training may go back to, beside the ends of epochs
_LOOK_EVERY = 50  # steps between two looks at the losses on a device that works on its own
_MOST_BAD = 5  # steps in a row without a finite loss
_MOST_RETURNS = 3


@dataclass
class FoldHistory:
    """What happened: mean training loss and validation AUC of each epoch, steps skipped, returns to a good state."""

    loss: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    skipped: int = 0
    returns: int = 0


@dataclass(frozen=True, eq=False)
class FoldOutcome:
    """A trained fold.

    oof: (n_valid,) probability of the rows that were held out. weights: what predicted them.
    epoch: which one's weights these are (from 1). seconds, images_per_s: of training in this run.
    """

    oof: NDArray[np.float64]
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

        folder of state_path/
        ├── state.pt    where it is; gone when the fold is done
        └── good.pt     end of the last epoch, or each 1,000 steps: where a diverged training goes back to
    """

    def __init__(
        self,
        settings: TimmSettings,
        fold: int,
        train: Subset,
        state_path: Path,
        device: torch.device,
        root: Path = Path(),
        *,
        workers: int = 2,
        progress: Progress = SILENT,
        title: str = "",
        group: ProcessGroup = ALONE,
    ) -> None:
        self.settings = settings
        self.train = train
        self.state_path = state_path
        self.device = device
        self.root = root
        self.workers = workers
        self.progress = progress
        self.title = title
        self.group = group
        self.seed = settings.seed * 1000 + fold
        self.batch_size = min(settings.step_images, max(1, len(train.ids) // group.size) * group.size)
        self._pseudo_fakes = self._make_pseudo_fakes()
        self._weight = None if train.weight is None else torch.from_numpy(train.weight)
        self._begin()

    def _make_pseudo_fakes(self) -> PseudoFakes:
        """What is done to images before they are augmented, and to their labels."""
        settings, train = self.settings, self.train
        partner = None if train.originals is None else pair_partners(train.ids, train.target, train.originals)
        return PseudoFakes(
            train.ids, train.target, self.seed, settings.self_blend, settings.pair_mix, settings.face_cutout, partner
        )

    def _begin(self) -> None:
        """The state before the first step."""
        torch.manual_seed(self.seed)
        model = create_model(self.settings, self.root)
        model = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        positives = float(self.train.target.mean()) if len(self.train.target) else 0.5
        balanced = self.settings.class_weight == "balanced"
        positive_weight = (1 - positives) / positives if balanced else 1.0
        self.state = TrainState(self.settings, model, self.device, positive_weight, self.group.size)
        self.history = FoldHistory()
        self.best: tuple[int, list[Tensor]] | None = None
        self.epoch = self.step = 0
        self.rate_factor = 1.0

    @property
    def model(self) -> torch.nn.Module:
        """The network."""
        return self.state.model

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; a last smaller one is left out, one batch is always there."""
        return max(1, len(self.train.ids) // self.batch_size)

    @property
    def steps_done(self) -> int:
        """Steps since the beginning."""
        return self.epoch * self.steps_per_epoch + self.step

    # ---- training -----------------------------------------------------------

    def run(self, valid: Subset) -> FoldOutcome:
        """Train to the end, then predict the held-out rows."""
        if self.group.broadcast(self.state_path.exists()):
            self._restore(checkpoint.load(self.state_path))
        begun, steps_before = time.monotonic(), self.steps_done
        total = self.settings.epochs * self.steps_per_epoch
        loader = Loader(self.workers, pin=self.device.type == "cuda")
        try:
            with self.progress.task(self.title, total=total, unit="step") as task, StopRequest() as request:
                task.advance(steps_before)
                while self.epoch < self.settings.epochs:
                    self._train_epoch(loader, task, request)
                    if self.step == self.steps_per_epoch:
                        self._end_epoch(valid)
                    if self.group.any(request.heard)[0]:
                        request.stop()
        finally:
            loader.close()
        seconds = time.monotonic() - begun
        epoch, values = self.best if self.best is not None else (self.settings.epochs, self.state.averaged)
        self.state.put(values)
        return FoldOutcome(
            self.predict(valid),
            {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()},
            self.history,
            epoch,
            seconds,
            (self.steps_done - steps_before) * self.batch_size / max(seconds, 1e-9),
        )

    def _train_epoch(self, loader: Loader, task: Task, request: StopRequest) -> None:
        """Go on with this epoch to its end, or until the training went back to an earlier state."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.train.ids))
        size, mine = self.batch_size, self.group.share(self.batch_size)
        plan = [order[step * size : (step + 1) * size][mine] for step in range(self.step, self.steps_per_epoch)]
        self.model.train()
        saved = time.monotonic()
        for rows, images in zip(plan, self._batches(loader, plan), strict=True):
            self._step(images, rows)
            self.step += 1
            facts = {"epoch": f"{self.epoch + 1}/{self.settings.epochs}"}
            if self.device.type == "cpu" or self.step % _LOOK_EVERY == 0:
                skipped, _, most_in_a_row = self.state.bad.tolist()
                facts["loss"] = f"{float(self.state.loss_sum) / max(1, self.step):.3f}"
                if not self._handle_bad_steps(int(skipped), int(most_in_a_row)):
                    return
            task.advance(1, **facts)
            keep = self.steps_done % _KEEP_EVERY == 0
            stop, due = self.group.any(request.heard, time.monotonic() - saved > _SAVE_EVERY_S)
            if keep or stop or due:
                if not self._save(keep=keep):
                    return
                saved = time.monotonic()
            if stop:
                request.stop()

    def _batches(self, loader: Loader, plan: list[NDArray[np.intp]]) -> Iterator[Tensor]:
        """Images of each step, augmented on a CPU; on another device that comes in the step."""
        stored, size = self.train.images.size, self.settings.image_size
        if self.settings.decode == "gpu":
            return loader.rows(plan, self.train, self.device)
        if self.device.type == "cuda":
            return loader.batches(plan, (stored, stored, 3), self._with_pseudo_fakes)
        return loader.batches(plan, (size, size, 3), self._augmented)

    def _with_pseudo_fakes(self, row: int) -> Images:
        def take(row: int) -> Images:
            return self.train.images[int(self.train.positions[row])]

        return take(row) if self._pseudo_fakes.is_idle else self._pseudo_fakes.image(self.epoch, row, take)

    def _augmented(self, row: int) -> Images:
        return apply(self._with_pseudo_fakes(row), self._draw(row), self.settings)

    def _draw(self, row: int) -> AugmentParams:
        rng = sample_rng(self.seed, self.epoch, self.train.ids[row])
        return sample_params(self.settings, self.train.images.size, rng)

    def _step(self, images: Tensor, rows: NDArray[np.intp]) -> None:
        """One step; where memory is too small and the batch size is "auto", again in more parts."""
        if self.device.type == "cuda":
            from trainers.augment.on_device import apply_on_device

            images = apply_on_device(images.to(self.device, non_blocking=True), [*map(self._draw, rows)], self.settings)
        target = torch.from_numpy(self._pseudo_fakes.labels(self.epoch, rows))
        weight = None if self._weight is None else self._weight[torch.from_numpy(rows)]
        total = self.settings.epochs * self.steps_per_epoch
        rate = lr_at(self.steps_done, total, self.settings) * self.rate_factor
        seed = (self.seed, self.epoch, self.step, *([self.group.rank] if self.group.size > 1 else []))
        while True:
            try:
                self.state.step(images, target, weight, rate=rate, step=self.steps_done, seed=seed)
                return
            except Exception as err:
                if not is_out_of_memory(err):
                    raise
                self.state.optimizer.zero_grad(set_to_none=True)
                # others of a team would wait in vain while this process tries again
                fixed = self.settings.batch_size != "auto" or self.group.size > 1
                if fixed or self.state.parts >= self.batch_size:
                    raise TrainingError(
                        f"{self.title}: {len(rows)} images of {self.settings.image_size} px in {self.state.parts} "
                        f"parts do not fit into the memory of {self.device} with {self.settings.backbone!r}. Set "
                        f'batch_size = "auto", or a larger accumulate (parts of a step), checkpointing = true, or a '
                        f"smaller image_size. What was trained is kept up to the last save."
                    ) from err
            self.state.parts = min(2 * self.state.parts, self.batch_size)
            self.progress.note(f"{self.title}: memory was too small; steps are now worked in {self.state.parts} parts")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _handle_bad_steps(self, skipped: int, most_in_a_row: int) -> bool:
        """Tell of steps that were skipped; go back where there were too many in a row (then false)."""
        if skipped > self.history.skipped:
            self.progress.note(
                f"{self.title}: {skipped - self.history.skipped} steps up to step {self.step} of epoch "
                f"{self.epoch + 1} had no finite loss and were skipped"
            )
            self.history.skipped = skipped
        if most_in_a_row < _MOST_BAD:
            return True
        self._go_back(f"{most_in_a_row} steps in a row had no finite loss")
        return False

    def _go_back(self, reason: str) -> None:
        """To the last good state, with half the rate."""
        returns, factor, skipped = self.history.returns + 1, self.rate_factor / 2, self.history.skipped
        if returns > _MOST_RETURNS:
            raise TrainingError(
                f"{self.title}: {reason} in epoch {self.epoch + 1}, also after {_MOST_RETURNS} returns to a good state "
                f"at smaller rates. Lower lr (now {self.settings.lr:g}), or set grad_clip = 1.0; "
                f"dfens check --decode tells whether images are broken."
            )
        good = self.state_path.with_name("good.pt")
        if self.group.broadcast(good.exists()):
            self._restore(checkpoint.load(good))
        else:
            self._begin()
        self.state.bad.zero_()
        self.state.bad[0] = skipped
        self.history.skipped, self.history.returns, self.rate_factor = skipped, returns, factor
        self.progress.note(
            f"{self.title}: {reason}; back to epoch {self.epoch + 1}, step {self.step}, with {factor:g} of the rate"
        )
        self._write(self.state_path)

    def _end_epoch(self, valid: Subset) -> None:
        skipped, _, most_in_a_row = self.state.bad.tolist()
        if not self._handle_bad_steps(int(skipped), int(most_in_a_row)):
            return
        self.group.sync([*self.state.values, *self.state.averaged])
        current = [value.detach().clone() for value in self.state.values]
        self.state.put(self.state.averaged)
        self.history.auc.append(roc_auc(valid.target, self.predict(valid, tta=False)))
        self.history.loss.append(float(self.state.loss_sum) / self.steps_per_epoch)
        if self.settings.checkpoint == "best" and self.history.auc[-1] >= max(self.history.auc):
            self.best = (self.epoch + 1, [value.clone() for value in self.state.averaged])
        self.state.put(current)
        self.state.loss_sum.zero_()
        self.epoch, self.step = self.epoch + 1, 0
        self._save(keep=True)

    def predict(
        self, rows: Subset, title: str = "", progress: Progress = SILENT, *, tta: bool = True
    ) -> NDArray[np.float64]:
        """Probabilities of rows with the weights as they are, shape (n_rows,)."""
        predictor = Predictor(self.settings, [self.model], self.device)
        found: NDArray[np.float64] = self.group.predict(predictor, rows, self.workers, title, progress, tta=tta)[0]
        return found

    # ---- state --------------------------------------------------------------

    def _save(self, *, keep: bool) -> bool:
        """Write the state if it is a good one; else go back to the last that was (then false)."""
        if self.group.any(not self.state.is_finite())[0]:
            self._go_back("weights are no longer finite")
            return False
        self._write(self.state_path)
        if keep and not int(self.state.bad[1]):
            self._write(self.state_path.with_name("good.pt"))
        return True

    def _write(self, path: Path) -> None:
        state = {
            **self.state.state(),
            "best": None if self.best is None else list(self.best),
            "epoch": self.epoch,
            "step": self.step,
            "rate_factor": self.rate_factor,
            "history": vars(self.history),
        }
        self.group.on_rank_zero(lambda: checkpoint.save(path, state))

    def _restore(self, state: dict[str, object]) -> None:
        self.state.restore(state)
        best, history = state["best"], state["history"]
        self.best = None
        if isinstance(best, Sequence):
            self.best = (best[0], [value.to(self.device) for value in best[1]])
        assert isinstance(history, dict)
        self.history = FoldHistory(**{**history, "loss": list(history["loss"]), "auc": list(history["auc"])})
        self.epoch, self.step = int(str(state["epoch"])), int(str(state["step"]))
        self.rate_factor = float(str(state["rate_factor"]))
