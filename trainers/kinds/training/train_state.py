"""One training step: forward, backward, optimiser and averaged weights, without waiting for the device."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.networks.backbone import enable_checkpointing
from trainers.networks.losses import loss_by_name
from trainers.networks.optim import make_optimizer
from trainers.networks.settings import OptimSettings
from trainers.runtime.device import amp_type, keep_freed_memory

Batch = Tensor | tuple[Tensor, ...]
# part of a batch, its targets and a generator -> inputs of the network, targets
MakeInputs = Callable[[Batch, Tensor, np.random.Generator], tuple[Batch, Tensor]]


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a batch."""
    return batch[rows] if isinstance(batch, Tensor) else tuple(part[rows] for part in batch)


def as_tuple(batch: Batch) -> tuple[Tensor, ...]:
    """Return a batch as the arguments of a network."""
    return (batch,) if isinstance(batch, Tensor) else batch


class TrainState:
    """A network, its optimiser and its averaged weights; the whole state of a training but for the position.

    A step whose loss or gradient is not finite changes nothing and is counted. The counts stay on the
    device; reading them waits for it, so that is done now and then.

    Args:
        settings: of the optimisation.
        model: on its device.
        make_inputs: turns a part of a batch into what the network takes: normalised, on the device, mixed.
        positive_weight: what a fake counts for, relative to a real.
        parts: in how many parts a step is worked, one after the other.
        world: number of processes that share each step.
    """

    def __init__(
        self,
        settings: OptimSettings,
        model: nn.Module,
        device: torch.device,
        make_inputs: MakeInputs,
        positive_weight: float = 1.0,
        world: int = 1,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
        self.settings = settings
        self.model = model
        self.device = device
        self.world = world
        self.parts = settings.accumulate
        self._make_inputs = make_inputs
        if settings.checkpointing:
            enable_checkpointing(model)
        self._forward: Any = torch.compile(model) if settings.compile else model
        if world > 1:
            self._forward = nn.parallel.DistributedDataParallel(
                self._forward, [device.index] if device.type == "cuda" else None
            )
        self.optimizer = make_optimizer(model, settings, device)
        self._amp = amp_type(device, settings.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._amp is torch.float16)
        self._loss = loss_by_name(settings.loss, settings.label_smoothing)
        self._positive_weight = positive_weight
        # the tensors themselves: optimiser and normalisation layers change them in place
        self.values = [value for value in model.state_dict().values() if value.is_floating_point()]
        self.averaged = [value.detach().clone() for value in self.values]
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.bad = torch.zeros(3, dtype=torch.float32, device=device)  # steps in all, in a row now, most in a row

    def step(
        self, batch: Batch, target: Tensor, weight: Tensor | None, *, rate: float, step: int, seed: Sequence[int]
    ) -> None:
        """Learn from one batch.

        Args:
            batch: what `make_inputs` takes, (batch, …) or several such.
            target: (batch,) 0 or 1. weight: (batch,), or None.
            rate: of learning. step: how many were done before. seed: of dropout and mixing at this step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        # drawn anew from the step, so that resuming needs no stored random state
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        rng = np.random.default_rng([*seed, 1])
        target = target.to(self.device, non_blocking=True)
        count = torch.where(target > 0, self._positive_weight, 1.0)
        if weight is not None:
            count = count * weight.to(self.device, non_blocking=True)
        total = torch.zeros((), device=self.device)
        size = -(-len(target) // self.parts)
        for start in range(0, len(target), size):
            part = slice(start, start + size)
            inputs, soft = self._make_inputs(rows_of(batch, part), target[part], rng)
            with self._alone_until_last(start + size >= len(target)):
                with torch.autocast(self.device.type, dtype=self._amp, enabled=self._amp is not None):
                    logits = self._forward(*as_tuple(inputs)).float().flatten()
                loss = self._loss(logits, soft, count[part]) * (len(soft) / len(target))
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self._update(total, step)
        self.optimizer.zero_grad(set_to_none=True)

    def _alone_until_last(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients travel between processes once a step, with its last part."""
        if self.world == 1 or last:
            return contextlib.nullcontext()
        without: contextlib.AbstractContextManager[None] = self._forward.no_sync()
        return without

    def _update(self, loss: Tensor, step: int) -> None:
        bad = ~torch.isfinite(loss)
        self.scaler.unscale_(self.optimizer)
        if self.settings.grad_clip:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
            bad = bad | (~torch.isfinite(norm) & (not self.scaler.is_enabled()))
        if self.world > 1:
            both = torch.stack([bad.float(), loss])
            torch.distributed.all_reduce(both)
            bad, loss = both[0] > 0, both[1] / self.world
        if self.device.type == "cpu" and bool(bad):  # asking the CPU costs nothing
            self._count(bad, loss)
            self._mend_statistics()
            return
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            if self.device.type == "cuda":
                self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        self._count(bad, loss)
        self._average(step)

    def _count(self, bad: Tensor, loss: Tensor) -> None:
        """Keep count of bad steps and the sum of good losses, on the device."""
        self.loss_sum += torch.where(bad, 0.0, loss)
        row = (self.bad[1] + 1) * bad
        self.bad = torch.stack([self.bad[0] + bad, row, torch.maximum(self.bad[2], row)])

    def _average(self, step: int) -> None:
        """Exponential moving average of the weights; its memory grows with the steps done, up to `ema`."""
        decay = min(self.settings.ema, (2 + step) / (11 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.values, 1 - decay)

    def _mend_statistics(self) -> None:
        """Normalisation statistics that a bad step has spoilt are taken from the averaged weights."""
        with torch.no_grad():
            for value, mean in zip(self.values, self.averaged, strict=True):
                if not torch.isfinite(value).all():
                    value.copy_(mean)

    def is_finite(self) -> bool:
        """Whether all weights and their averages are finite; waits for the device."""
        return all(bool(torch.isfinite(value).all()) for value in (*self.values, *self.averaged))

    def put(self, values: Sequence[Tensor]) -> None:
        """Set the weights."""
        with torch.no_grad():
            torch._foreach_copy_(self.values, list(values))

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": self.averaged,
            "loss_sum": self.loss_sum,
            "bad": self.bad,
            "parts": self.parts,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.averaged = [value.to(self.device) for value in state["averaged"]]
        self.loss_sum, self.bad = state["loss_sum"].to(self.device), state["bad"].to(self.device)
        self.parts = state["parts"]
