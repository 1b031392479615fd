"""The training loop of one fold: epochs, saving, resuming, divergence, stop requests, choice of weights."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oof.errors import TrainingError
from oof.ids import ids_fingerprint
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress, Task
from trainers.kinds.base import settings_record
from trainers.kinds.prediction import predict_rows
from trainers.kinds.records import setting_changes
from trainers.kinds.training.fold_data import FoldData
from trainers.kinds.training.train_state import Batch, TrainState
from trainers.media.arrays import Rows
from trainers.networks.optim import lr_at
from trainers.networks.residual import merged_state
from trainers.networks.settings import OptimSettings
from trainers.runtime import checkpoint
from trainers.runtime.device import EnergyMeter, is_out_of_memory
from trainers.runtime.process_group import ALONE, ProcessGroup
from trainers.runtime.signals import StopRequest

_SAVE_EVERY_S = 60.0
_MOST_SAVING = 0.05  # share of the time spent on saving within epochs, for large networks on slow disks
# steps between states to which a diverged training can return, in addition to the ends of epochs
_GOOD_STATE_EVERY = 1000
_READ_LOSS_EVERY = 50  # steps between reads of the losses on an asynchronous device
_MOST_BAD = 5  # consecutive steps with a non-finite loss or gradient
_MOST_RETURNS = 3


@dataclass
class FoldHistory:
    """Mean training loss and validation AUC of each epoch, and number of skipped steps and returns to a good state.

    seconds, joules: duration up to the last save, and energy of the whole GPU, of all runs of this training.
    """

    loss: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    skipped: int = 0
    returns: int = 0
    seconds: float = 0.0
    joules: float | None = 0.0


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """A fold at the end of its training.

    oof: (n_held_out,) probability of the held-out rows. weights: weights that predicted them.
    history: training history. epoch: epoch of the weights (from 1).
    seconds, joules: duration and energy of the whole GPU, of all runs; None if the GPU does not report it.
    rows_per_s: speed of training in this run.
    """

    oof: NDArray[np.float64]
    weights: dict[str, Tensor]
    history: FoldHistory
    epoch: int
    seconds: float
    joules: float | None
    rows_per_s: float


class FoldTrainer:
    """Trains one fold; its whole state is saved in `state_path` at the end of each epoch and every minute.

    On a CPU the results are bit-identical for the same seed, number of threads and machine, even if the process
    was killed in between: the order of rows is drawn from (seed, epoch), and data are drawn from (seed, epoch, id).

        folder of state_path/
        ├── state.pt    current state; removed when the fold is done
        └── good.pt     state after the last epoch, or every 1,000 steps, to which a diverged training returns
    """

    def __init__(
        self,
        settings: OptimSettings,
        seed: int,
        data: FoldData,
        state_path: Path,
        device: torch.device,
        *,
        progress: Progress = SILENT,
        title: str = "",
        group: ProcessGroup = ALONE,
        epochs: int | None = None,
    ) -> None:
        self.settings = settings
        self._all_settings: Any = settings  # the same, with those of its kind
        self.last_epoch = settings.epochs if epochs is None else epochs  # learning rates are those of settings.epochs
        self.seed = seed
        self.data = data
        self.state_path = state_path
        self.device = device
        self.progress = progress
        self.title = title
        self.group = group
        self.batch_size = min(settings.step_rows, max(1, len(data.ids) // group.size) * group.size)
        self._weight = None if data.weight is None else torch.from_numpy(data.weight)
        self._totals = _Totals(device)
        self._save_seconds = 0.0  # duration of the last save
        self._rows = ids_fingerprint(data.ids)
        self._begin()

    def _begin(self) -> None:
        """Set the state before the first step."""
        torch.manual_seed(self.seed)
        model = self.data.make_network()
        model = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        make_inputs = self.data.make_inputs(model)
        self.state = TrainState(
            self.settings,
            model,
            self.device,
            make_inputs,
            self._positive_weight(),
            self.group.size,
            repeats=self.data.repeats,
        )
        self.history = FoldHistory()
        self.best: tuple[int, list[Tensor]] | None = None
        self.epoch = self.step = 0
        self.rate_factor = 1.0

    def _positive_weight(self) -> float:
        """Return the weight of a fake relative to a real."""
        if self.settings.class_weight != "balanced":
            return 1.0
        positives = self.data.positive_share()
        return (1 - positives) / positives if 0 < positives < 1 else 1.0

    @property
    def model(self) -> torch.nn.Module:
        """Return the network."""
        return self.state.model

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of full batches in an epoch, at least one; a smaller last batch is left out."""
        return max(1, len(self.data.ids) // self.batch_size)

    @property
    def steps_done(self) -> int:
        """Return the number of steps since the start."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def _good_path(self) -> Path:
        return self.state_path.with_name("good.pt")

    # ---- training -----------------------------------------------------------

    def run(self) -> TrainedFold:
        """Train to the end, then predict the held-out rows."""
        if self.group.broadcast(self.state_path.exists()):
            state = checkpoint.load(self.state_path)
            if others := self._differs(state):
                self.progress.note(f"{self.title}: the state of a training {others} is not used")
                self.group.on_rank_zero(lambda: self._good_path.unlink(missing_ok=True))
            else:
                self._restore(state)
        self._totals.begin(self.history)
        steps_before = self.steps_done
        total = self.last_epoch * self.steps_per_epoch
        with (
            contextlib.closing(self.data),
            self.progress.task(self.title, total=total, unit="step") as task,
            StopRequest() as request,
        ):
            task.advance(steps_before)
            while self.epoch < self.last_epoch:
                self._train_epoch(task, request)
                if self.step == self.steps_per_epoch:
                    self._end_epoch(request)
                if self.group.any(request.is_requested)[0]:
                    request.stop()
        self._totals.record_in(self.history)
        epoch, values = self.best if self.best is not None else (self.last_epoch, self.state.averaged)
        self.state.put(values)
        return TrainedFold(
            self.predict(tta=True),
            # copies: safetensors refuses tensors that share memory, and some networks (CoaT) tie weights
            {
                name: value.detach().to("cpu", copy=True).contiguous()
                for name, value in merged_state(self.model).items()
            },
            self.history,
            epoch,
            self.history.seconds,
            self.history.joules,
            (self.steps_done - steps_before) * self.batch_size / max(self._totals.seconds, 1e-9),
        )

    def _train_epoch(self, task: Task, request: StopRequest) -> None:
        """Train to the end of this epoch, or until the training returns to an earlier state."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.data.ids))
        size, mine = self.batch_size, self.group.share(self.batch_size)
        plan = [order[step * size : (step + 1) * size][mine] for step in range(self.step, self.steps_per_epoch)]
        self.model.train()
        saved = time.monotonic()
        for rows, batch in zip(plan, self.data.batches(self.epoch, plan), strict=True):
            self._step(batch, rows)
            self.step += 1
            facts = {"epoch": f"{self.epoch + 1}/{self.last_epoch}"}
            if self.device.type == "cpu" or self.step % _READ_LOSS_EVERY == 0:
                skipped, _, most_in_a_row = self.state.bad.tolist()
                facts["loss"] = f"{float(self.state.loss_sum) / max(1, self.step):.3f}"
                if not self._handle_bad_steps(int(skipped), int(most_in_a_row)):
                    return
            task.advance(1, **facts)
            is_good_state = self.steps_done % _GOOD_STATE_EVERY == 0
            stop, due = self.group.any(request.is_requested, time.monotonic() - saved > self._save_every)
            if is_good_state or stop or due:
                if not self._save(is_good_state=is_good_state):
                    return
                saved = time.monotonic()
            if stop:
                request.stop()

    @property
    def _save_every(self) -> float:
        """Seconds between two saves within an epoch: longer if saving takes long."""
        return max(_SAVE_EVERY_S, self._save_seconds / _MOST_SAVING)

    def _step(self, batch: Batch, rows: Rows) -> None:
        """Run one step; if memory runs out and the batch size is "auto", retry it in more parts."""
        target = self.data.targets(self.epoch, rows)
        weight = None if self._weight is None else self._weight[torch.from_numpy(rows)]
        total = self.settings.epochs * self.steps_per_epoch
        rate = lr_at(self.steps_done, total, self.settings) * self.rate_factor
        seed = (self.seed, self.epoch, self.step, *([self.group.rank] if self.group.size > 1 else []))
        while True:
            try:
                self.state.step(batch, target, weight, rate=rate, step=self.steps_done, seed=seed)
                return
            except Exception as err:
                if not is_out_of_memory(err):
                    raise
                if self.state.abandon():
                    continue
                # the other processes of a group would wait forever while this one retries
                fixed = self.settings.batch_size != "auto" or self.group.size > 1
                if fixed or self.state.parts >= self.batch_size:
                    raise TrainingError(
                        f"{self.title}: {len(rows)} {self.data.batch_text} in {self.state.parts} parts do not fit into "
                        f'the memory of {self.device}. Set batch_size = "auto", or a larger accumulate (parts of a '
                        f"step), checkpointing = true, or smaller inputs. Progress is kept up to the last checkpoint."
                    ) from err
            self.state.parts = min(2 * self.state.parts, self.batch_size)
            self.progress.note(f"{self.title}: out of memory; steps are now computed in {self.state.parts} parts")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _handle_bad_steps(self, skipped: int, most_in_a_row: int) -> bool:
        """Report skipped steps; return to a good state if there were too many in a row, and then return False."""
        if skipped > self.history.skipped:
            self.progress.note(
                f"{self.title}: {skipped - self.history.skipped} steps up to step {self.step} of epoch "
                f"{self.epoch + 1} had a non-finite loss or gradient and were skipped"
            )
            self.history.skipped = skipped
        if most_in_a_row < _MOST_BAD:
            return True
        self._go_back(f"{most_in_a_row} consecutive steps had a non-finite loss or gradient")
        return False

    def _go_back(self, reason: str) -> None:
        """Return to the last good state and halve the learning rate."""
        returns, factor, skipped = self.history.returns + 1, self.rate_factor / 2, self.history.skipped
        if returns > _MOST_RETURNS:
            raise TrainingError(
                f"{self.title}: {reason} in epoch {self.epoch + 1}, also after {_MOST_RETURNS} returns to a good state "
                f"at smaller rates. Lower lr (now {self.settings.lr:g}), or set grad_clip = 1.0; dfens check --decode "
                f"finds broken files."
            )
        if self.group.broadcast(self._good_path.exists()):
            self._restore(checkpoint.load(self._good_path))
        else:
            self.state.release_graph()
            self._begin()
        self.state.bad.zero_()
        self.state.bad[0] = skipped
        self.history.skipped, self.history.returns, self.rate_factor = skipped, returns, factor
        self.progress.note(
            f"{self.title}: {reason}; back to epoch {self.epoch + 1}, step {self.step}, with {factor:g} times the "
            f"learning rate"
        )
        self._write(self.state_path)

    def _end_epoch(self, request: StopRequest) -> None:
        """Validate with the averaged weights, and save; after a stop request in between, the next process does this."""
        skipped, _, most_in_a_row = self.state.bad.tolist()
        if not self._handle_bad_steps(int(skipped), int(most_in_a_row)):
            return
        self.group.sync([*self.state.values, *self.state.averaged])
        if self._is_diverged():
            return
        current = [value.detach().clone() for value in self.state.values]
        self.state.put(self.state.averaged)
        # processes of a group predict different numbers of batches, so they stop only after the last one
        is_stopped = (lambda: request.is_requested) if self.group.size == 1 else (lambda: False)
        predictions = self.predict(tta=False, until=is_stopped)
        self.state.put(current)
        if len(predictions) < len(self.data.held_out):
            self._write(self.state_path)
            return
        if not np.isfinite(predictions).all():
            self._go_back("predictions of held-out rows are not finite")
            return
        self.history.loss.append(float(self.state.loss_sum) / self.steps_per_epoch)
        if len(predictions):  # a refit holds out no rows and uses its last epoch
            self.history.auc.append(roc_auc(self.data.held_out["target"].to_numpy(), predictions))
            if self.settings.checkpoint == "best" and self.history.auc[-1] >= max(self.history.auc):
                self.best = (self.epoch + 1, [value.clone() for value in self.state.averaged])
        self.state.loss_sum.zero_()
        self.epoch, self.step = self.epoch + 1, 0
        if self.epoch == 1 and self.state.graph_failure:
            self.progress.note(f"{self.title}: no CUDA graph, steps may be slower: {self.state.graph_failure}")
        self._save(is_good_state=True)

    def predict(self, *, tta: bool, until: Callable[[], bool] = lambda: False) -> NDArray[np.float64]:
        """Predict the held-out rows with the current weights; only some of them if `until` stops it."""
        self.state.release_graph()
        models = self.data.fold_models(self.model, tta=tta)
        found: NDArray[np.float64] = predict_rows(models, self.data.held_out, self.group, until=until)[0]
        return found

    # ---- state --------------------------------------------------------------

    def _differs(self, state: dict[str, Any]) -> str:
        """Return how the training that saved a state differs from this one; "" if it does not.

        Earlier versions have not recorded its rows and settings.
        """
        if state.get("rows", self._rows) != self._rows:  # it went on after dfens folds, and has seen rows held out now
            return "on other rows"
        changed = setting_changes(state["settings"], self._all_settings) if "settings" in state else {}
        return f"with other settings ({', '.join(changed.values())})" if changed else ""

    def _is_diverged(self) -> bool:
        """Return whether weights were no longer finite, in which case the training has returned to a good state."""
        diverged = self.group.any(not self.state.is_finite())[0]
        if diverged:
            self._go_back("weights are no longer finite")
        return diverged

    def _save(self, *, is_good_state: bool) -> bool:
        """Write the state if it is finite; otherwise go back to the last good one and return False."""
        if self._is_diverged():
            return False
        self._write(self.state_path)
        if is_good_state and not int(self.state.bad[1]):
            self._keep_as_good()
        return True

    def _keep_as_good(self) -> None:
        """Keep the state just written as the one to which a diverged training returns."""

        def keep() -> bool:
            try:
                checkpoint.keep_as(self.state_path, self._good_path)
            except OSError:  # a file system without links
                return False
            return True

        if not self.group.on_rank_zero(keep):
            self._write(self._good_path)

    def _write(self, path: Path) -> None:
        started = time.monotonic()
        self._totals.record_in(self.history)
        state = {
            **self.state.state(),
            "best": None if self.best is None else list(self.best),
            "epoch": self.epoch,
            "step": self.step,
            "rate_factor": self.rate_factor,
            "history": vars(self.history),
            "rows": self._rows,
            "settings": settings_record(self._all_settings),
        }
        self.group.on_rank_zero(lambda: checkpoint.save(path, state))
        self._save_seconds = time.monotonic() - started

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


class _Totals:
    """Duration and energy of a training, over all of its runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: tuple[float, float | None] = (0.0, 0.0)
        self._begun = time.monotonic()
        self._meter = EnergyMeter(device)

    def begin(self, history: FoldHistory) -> None:
        """Continue from the totals of earlier runs."""
        self._before = history.seconds, history.joules
        self._begun, self._meter = time.monotonic(), EnergyMeter(self._device)

    @property
    def seconds(self) -> float:
        """Duration of this run in seconds."""
        return time.monotonic() - self._begun

    def record_in(self, history: FoldHistory) -> None:
        """Record seconds and energy in the history."""
        seconds, joules = self._before
        here = self._meter.joules
        history.seconds = seconds + self.seconds
        history.joules = None if joules is None or here is None else joules + here
