"""One training step: forward, backward, optimiser and averaged weights, without waiting for the device."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.networks.backbone import enable_checkpointing
from trainers.networks.losses import alignment_loss, class_weights, loss_by_name, uniformity_loss
from trainers.networks.optim import make_optimizer, restore_optimizer, set_lr
from trainers.networks.output import NetworkOutput, as_output
from trainers.networks.residual import residual_penalty
from trainers.networks.settings import OptimSettings
from trainers.runtime.device import Pace, amp_type, on_device, set_up
from trainers.runtime.step_graph import StepGraph

Batch = Tensor | tuple[Tensor, ...]
# part of a batch, weights of its rows as reals and as fakes (n, 2), a generator -> network inputs, new weights
MakeInputs = Callable[[Batch, Tensor, np.random.Generator], tuple[Batch, Tensor]]


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Return some rows of a batch."""
    return batch[rows] if isinstance(batch, Tensor) else tuple(part[rows] for part in batch)


def as_tuple(batch: Batch) -> tuple[Tensor, ...]:
    """Return a batch as the arguments of a network."""
    return (batch,) if isinstance(batch, Tensor) else batch


def copy_values(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors with a single call."""
    if into:  # torch refuses empty lists
        with torch.no_grad():
            torch._foreach_copy_(list(into), list(values))


class TrainState:
    """A network, its optimiser and its averaged weights: the whole state of a training except the position.

    A step with a non-finite loss or gradient changes no weights, normalisation statistics or averages, on
    any device, and is counted. The counts stay on the device; since reading them requires synchronisation, this is done
    only occasionally.

    Args:
        settings: settings of the optimisation.
        model: network on its device.
        make_inputs: turns a part of a batch into inputs of the network: normalised, on the device, mixed.
        positive_weight: weight of a fake relative to a real.
        parts: number of parts into which a step is split.
        world: number of processes that share each step.
        repeats: whether the network runs the same operations in each step, so that a CUDA graph may repeat them.
    """

    def __init__(
        self,
        settings: OptimSettings,
        model: nn.Module,
        device: torch.device,
        make_inputs: MakeInputs,
        positive_weight: float = 1.0,
        world: int = 1,
        *,
        repeats: bool = False,
    ) -> None:
        set_up(device)
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
        self._is_constrained = settings.residual_penalty > 0 and residual_penalty(model) is not None
        # references to the tensors, which optimiser and normalisation layers change in place
        self.values = [value for value in model.state_dict().values() if value.is_floating_point()]
        self.averaged = [value.detach().clone() for value in self.values]
        # buffers that batch norm changes in the forward pass, before it is known whether the step is good
        self._statistics = [
            value for name, value in model.named_buffers() if name.endswith(("running_mean", "running_var"))
        ]
        self._statistics_before = [value.clone() for value in self._statistics]
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.bad = torch.zeros(3, dtype=torch.float32, device=device)  # total, current and longest run of bad steps
        self._average_rate = torch.zeros((), device=device)  # 1 - decay of the average
        self._pace = Pace(device)
        self._graph: StepGraph | None = None
        # checkpointing and compilation have their own use of random states and graphs
        if repeats and device.type == "cuda" and world == 1 and not (settings.checkpointing or settings.compile):
            self._graph = StepGraph(device)

    def step(
        self,
        batch: Batch,
        target: Tensor,
        weight: Tensor | None,
        *,
        rate: float,
        step: int,
        seed: Sequence[int],
    ) -> None:
        """Train on one batch.

        Args:
            batch: input of `make_inputs`, (batch, …) or a tuple of such tensors.
            target: (batch,) 0 to 1. weight: (batch,), or None.
            rate: learning rate. step: number of earlier steps. seed: seed of dropout and mixing in this step.
        """
        set_lr(self.optimizer, rate)
        self._average_rate.fill_(1 - min(self.settings.ema, (2 + step) / (11 + step)))
        # seeded by the step, so that resuming needs no stored random state
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        rng = np.random.default_rng([*seed, 1])
        weights = class_weights(target, weight, self._positive_weight)
        if weights.device.type == "cpu":
            weights = on_device(weights.numpy(), self.device)
        copy_values(self._statistics_before, self._statistics)
        if self.parts == 1:
            inputs, mixed = self._make_inputs(batch, weights, rng)
            given = (*as_tuple(inputs), mixed)
            if self._graph is None:
                self._compute(given)
            else:
                self._graph(self._compute, given)
        else:
            total = torch.zeros((), device=self.device)
            size = -(-len(target) // self.parts)
            for start in range(0, len(target), size):
                part = slice(start, start + size)
                inputs, mixed = self._make_inputs(rows_of(batch, part), weights[part], rng)
                with self._alone_until_last(start + size >= len(target)):
                    total += self._backward(as_tuple(inputs), mixed, len(mixed) / len(target))
            self._update(total)
        self._pace.wait()

    def _compute(self, given: tuple[Tensor, ...]) -> None:
        """Train on the inputs of the network and the weights of their rows."""
        try:
            self._update(self._backward(given[:-1], given[-1], 1.0))
        except Exception:
            self._discard()  # a step that cannot be captured is computed directly afterwards
            raise

    def _backward(self, inputs: tuple[Tensor, ...], weights: Tensor, share: float) -> Tensor:
        """Add the gradients of a part of a step, which has this share of its rows; return its part of the loss."""
        with torch.autocast(self.device.type, dtype=self._amp, enabled=self._amp is not None):
            outputs = self._forward(*inputs)
        loss = self._total_loss(as_output(outputs), weights) * share
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _total_loss(self, output: NetworkOutput, weights: Tensor) -> Tensor:
        """Return the sum of the losses on logits, further heads and features, and of the constraints on weights."""
        settings = self.settings
        loss = self._loss(output.logits.float().flatten(), weights)
        for side_logits, share in output.sides:
            loss = loss + self._loss(side_logits.float().flatten(), weights * share[:, None])
        if output.features is not None and settings.alignment:
            loss = loss + settings.alignment * alignment_loss(output.features, weights)
        if output.features is not None and settings.uniformity:
            loss = loss + settings.uniformity * uniformity_loss(output.features, weights)
        if self._is_constrained and (penalty := residual_penalty(self.model)) is not None:
            loss = loss + settings.residual_penalty * penalty
        return loss

    def abandon(self) -> bool:
        """Discard a step that an error interrupted: its gradients, its statistics, and its traces in the scaler.

        Returns:
            Whether memory was given back: that of a graph, which is not used again.
        """
        held = self._graph is not None and self._graph.holds_memory
        self.release_graph()
        if held:
            self._graph = None
        copy_values(self._statistics, self._statistics_before)
        self._discard()
        return held

    def _discard(self) -> None:
        """Discard the gradients of a step, and its traces in the scaler."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():
            state, self.scaler = self.scaler.state_dict(), torch.amp.GradScaler(self.device.type)
            self.scaler.load_state_dict(state)

    def _alone_until_last(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return a context that synchronises gradients between processes only in the last part of a step."""
        if self.world == 1 or last:
            return contextlib.nullcontext()
        without: contextlib.AbstractContextManager[None] = self._forward.no_sync()
        return without

    def release_graph(self) -> None:
        """Give back the memory that is kept between steps, before anything else uses the device."""
        if self._graph is not None:
            self._graph.release()

    @property
    def graph_failure(self) -> str:
        """Why steps cannot be repeated as a graph; empty if they can, or if it is not tried."""
        return "" if self._graph is None else self._graph.failure

    def _update(self, loss: Tensor) -> None:
        """Apply the optimiser's step and update the average, unless loss or gradient is not finite.

        The same code runs on all devices and does not wait for them: `found_inf` makes the fused optimiser skip, the
        statistics are selected by `torch.where`, and the average is updated with weight 0.
        """
        self.scaler.unscale_(self.optimizer)
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.settings.grad_clip:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.settings.grad_clip, norm)
        bad = ~torch.isfinite(loss)
        if not self.scaler.is_enabled():  # a scaler determines its scale by overflowing gradients, which are not errors
            bad = bad | ~torch.isfinite(norm)
        if self.world > 1:
            both = torch.stack([bad.float(), loss])
            torch.distributed.all_reduce(both)
            bad, loss = both[0] > 0, both[1] / self.world
        skip = bad | ~torch.isfinite(norm)
        self.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        if self.scaler.is_enabled():
            self.scaler.update()
        for value, before in zip(self._statistics, self._statistics_before, strict=True):
            torch.where(skip, before, value, out=value)
        self._count(bad, loss)
        self._average(skip)
        self.optimizer.zero_grad(set_to_none=True)

    def _count(self, bad: Tensor, loss: Tensor) -> None:
        """Count bad steps and add up good losses, on the device."""
        self.loss_sum += torch.where(bad, 0.0, loss)
        row = (self.bad[1] + 1) * bad
        self.bad.copy_(torch.stack([self.bad[0] + bad, row, torch.maximum(self.bad[2], row)]))

    def _average(self, skip: Tensor) -> None:
        """Update the exponential moving average of the weights; its decay increases with the steps, up to `ema`."""
        weight = self._average_rate * ~skip
        with torch.no_grad():  # one call for all tensors instead of one per tensor
            torch._foreach_lerp_(self.averaged, self.values, [weight] * len(self.values))

    def is_finite(self) -> bool:
        """Return whether all weights and their averages are finite; waits for the device."""
        return bool(torch.stack([torch.isfinite(value).all() for value in (*self.values, *self.averaged)]).all())

    def put(self, values: Sequence[Tensor]) -> None:
        """Set the weights."""
        copy_values(self.values, values)

    def state(self) -> dict[str, Any]:
        """Return everything that the next steps depend on."""
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
        """Restore a state."""
        self.release_graph()  # it uses the tensors that are replaced here
        self.model.load_state_dict(state["model"])
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.scaler.is_enabled() and state["scaler"]:  # empty after a run on a device that needs no scaler
            self.scaler.load_state_dict(state["scaler"])
        self.averaged = [value.to(self.device) for value in state["averaged"]]
        self.loss_sum, self.bad = state["loss_sum"].to(self.device), state["bad"].to(self.device)
        self.parts = state["parts"]
