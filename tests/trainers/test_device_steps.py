"""Training steps on every device: precisions, micro-batches, memory, averages; CPU and CUDA must agree."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.devices import DEVICES, farthest, picture
from tests.support.devices import settings as any_size
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.train_state import Batch, TrainState
from trainers.networks.backbone import create_model
from trainers.networks.normalise import Normalise
from trainers.runtime import step_graph
from trainers.runtime.device import EnergyMeter, amp_type, is_out_of_memory, peak_memory

CPU = torch.device("cpu")
EDGE = 32  # many CPUs emulate float16: at 64 px these tests took minutes


def settings(**values: object) -> TimmSettings:
    return any_size(image_size=EDGE, **values)


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """Use deterministic kernels, so that differences between two runs are caused by the code."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    """Return uint8 images (count, EDGE, EDGE, 3) and their labels."""
    images = torch.stack([torch.from_numpy(picture(row, EDGE)) for row in range(count)])
    return images, (torch.arange(count) % 2).float()


def state_on(device: str, chosen: TimmSettings, seed: int = 0) -> TrainState:
    """Return the state before the first step, with images normalised as for any timm network."""
    torch.manual_seed(seed)
    model = create_model(chosen, chosen.image_size)
    model = model.to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    normalise = Normalise(model, torch.device(device))

    def make_inputs(batch: Batch, weights: Tensor, rng: np.random.Generator) -> tuple[Batch, Tensor]:
        assert isinstance(batch, Tensor)
        return normalise(batch), weights

    return TrainState(chosen, model, torch.device(device), make_inputs, repeats=True)


def run(state: TrainState, steps: int, *, first: int = 0, rate: float = 2e-3) -> list[float]:
    """Run steps on one batch and return their losses."""
    images, target = batch()
    losses = []
    for step in range(first, first + steps):
        state.loss_sum.zero_()
        state.step(images, target, None, rate=rate, step=step, seed=(0, step))
        losses.append(float(state.loss_sum))
    return losses


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_steps_learn_in_every_precision(device: str, precision: str) -> None:
    state = state_on(device, settings(precision=precision))
    losses = run(state, 25)
    assert losses[-1] < 0.5 * losses[0]
    assert state.is_finite()
    assert all(value.dtype == torch.float32 for value in state.values)
    assert state.scaler.is_enabled() == (precision == "float16")


@pytest.mark.gpu
def test_cuda_steps_equal_those_of_the_cpu() -> None:
    """Float32 without TF32: losses agree to 1e-4 over three steps, weights and averages to 2e-3."""
    cpu, cuda = state_on("cpu", settings(grad_clip=1.0)), state_on("cuda", settings(grad_clip=1.0))
    assert run(cpu, 3) == pytest.approx(run(cuda, 3), abs=1e-4)
    for one, other in zip((*cpu.values, *cpu.averaged), (*cuda.values, *cuda.averaged), strict=True):
        assert farthest(one, other) < 2e-3


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_restored_state_continues_with_the_same_losses(device: str, precision: str) -> None:
    chosen = settings(precision=precision)
    whole = state_on(device, chosen)
    expected = run(whole, 8)
    first = state_on(device, chosen)
    run(first, 4)
    stored: Any = copy.deepcopy(first.state())
    second = state_on(device, chosen, seed=1)
    second.restore(stored)
    assert run(second, 4, first=4) == pytest.approx(expected[4:], rel=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_micro_batches_give_the_gradient_of_the_full_batch(device: str) -> None:
    # layer norm, since batch norm computes statistics over each part
    whole = state_on(device, settings(backbone="test_vit", backbone_options={"img_size": EDGE}))
    parts = state_on(device, settings(backbone="test_vit", backbone_options={"img_size": EDGE}, accumulate=4))
    assert run(whole, 3) == pytest.approx(run(parts, 3), rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_checkpointing_changes_nothing(device: str) -> None:
    options = {"backbone": "test_vit", "backbone_options": {"img_size": EDGE}}
    plain, twice = state_on(device, settings(**options)), state_on(device, settings(**options, checkpointing=True))
    assert run(plain, 3) == pytest.approx(run(twice, 3), rel=1e-4)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TensorFloat32")  # of torch's compiler
def test_a_compiled_network_learns_equally() -> None:
    plain, compiled = state_on("cuda", settings()), state_on("cuda", settings(compile=True))
    assert run(plain, 3) == pytest.approx(run(compiled, 3), rel=2e-3)
    assert not any("_orig_mod" in name for name in compiled.model.state_dict())


@pytest.mark.parametrize("device", DEVICES)
def test_weights_and_images_are_channels_last(device: str) -> None:
    state = state_on(device, settings())
    weights = torch.ones(16, 2)
    images, _ = state._make_inputs(batch()[0], weights, np.random.default_rng(0))
    assert isinstance(images, Tensor)
    assert images.is_contiguous(memory_format=torch.channels_last)
    wide = [value for value in state.values if value.ndim == 4 and min(value.shape[1:]) > 1]
    run(state, 1)
    assert wide
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in wide)


@pytest.mark.parametrize("device", DEVICES)
def test_averaged_weights_equal_their_definition(device: str) -> None:
    state = state_on(device, settings(ema=0.9))
    expected = [value.double().cpu() for value in state.averaged]
    for step in range(4):
        run(state, 1, first=step)
        decay = min(0.9, (2 + step) / (11 + step))
        expected = [
            old * decay + new.double().cpu() * (1 - decay) for old, new in zip(expected, state.values, strict=True)
        ]
    for one, other in zip(state.averaged, expected, strict=True):
        assert farthest(one, other) < 1e-5


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_bad_step_changes_neither_weights_nor_statistics_nor_averages(device: str, precision: str) -> None:
    state = state_on(device, settings(precision=precision))
    run(state, 2)
    before = [value.clone() for value in (*state.values, *state.averaged)]
    make_inputs = state._make_inputs

    def spoilt(batch: Batch, weights: Tensor, rng: np.random.Generator) -> tuple[Batch, Tensor]:
        images, weights = make_inputs(batch, weights, rng)
        assert isinstance(images, Tensor)
        return images * float("inf"), weights

    state._make_inputs = spoilt
    run(state, 1, first=2)
    state._make_inputs = make_inputs
    assert state.bad.tolist() == [1, 1, 1]
    for old, new in zip(before, (*state.values, *state.averaged), strict=True):
        assert torch.equal(old, new)
    assert run(state, 3, first=3)[-1] < 2
    assert state.bad.tolist() == [1, 0, 1]


@pytest.mark.gpu
def test_memory_that_runs_out_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 45, dtype=torch.uint8, device="cuda")
    assert is_out_of_memory(caught.value)


@pytest.mark.gpu
def test_memory_and_energy_are_read() -> None:
    device = torch.device("cuda")
    meter = EnergyMeter(device)
    a = torch.randn(4096, 4096, device=device)
    for _ in range(200):
        a @ a
    torch.cuda.synchronize()
    assert peak_memory(device)["device"] >= 2 * 4 * 4096**2
    if meter.joules is not None:
        assert 1 < meter.joules < 1e5


@pytest.mark.gpu
def test_automatic_precision_is_16_bits_on_the_device() -> None:
    major = torch.cuda.get_device_capability()[0]
    assert amp_type(torch.device("cuda")) is (torch.bfloat16 if major >= 8 else torch.float16)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_non_finite_gradient_changes_nothing(device: str, precision: str) -> None:
    state = state_on(device, settings(precision=precision))
    run(state, 2)
    before = [value.clone() for value in (*state.values, *state.averaged)]
    spoilt = next(parameter for parameter in state.model.parameters() if parameter.requires_grad)
    handle = spoilt.register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[no-untyped-call]
    run(state, 1, first=2)
    handle.remove()
    for old, new in zip(before, (*state.values, *state.averaged), strict=True):
        assert torch.equal(old, new)
    # skipped steps while the scaler finds its scale are not errors
    assert state.bad.tolist()[0] == (1 if precision == "float32" else 0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_aborted_after_unscaling_can_be_repeated(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_on(device, settings(precision="float16"))
    run(state, 2)
    before = [value.clone() for value in state.values]

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(state.optimizer, "step", no_memory)
        run(state, 1, first=2)
    state.abandon()
    for old, new in zip(before, state.values, strict=True):
        assert torch.equal(old, new)
    assert run(state, 1, first=2)[0] < 2


def test_a_run_can_be_resumed_in_another_precision() -> None:
    first = state_on("cpu", settings(precision="bfloat16"))
    run(first, 2)
    second = state_on("cpu", settings(precision="float16"), seed=1)
    second.restore(copy.deepcopy(first.state()))
    assert run(second, 1, first=2)[0] < 2


@pytest.mark.gpu
@pytest.mark.parametrize("values", [
    {}, {"precision": "bfloat16"}, {"precision": "float16"}, {"grad_clip": 0.1}, {"loss": "auc"},
    {"backbone": "test_vit", "backbone_options": {"img_size": EDGE, "drop_path_rate": 0.3}, "layer_decay": 0.7},
], ids=str)  # fmt: skip
def test_steps_of_a_graph_equal_direct_ones(values: dict[str, object]) -> None:
    """Losses, weights and averages after steps at different rates; random numbers are the same as well."""
    graph, direct = state_on("cuda", settings(**values)), state_on("cuda", settings(**values))
    direct._graph = None
    for first in range(0, 12, 3):
        rate = 1e-3 / (1 + first)
        assert run(graph, 3, first=first, rate=rate) == pytest.approx(
            run(direct, 3, first=first, rate=rate), rel=1e-4, abs=1e-5
        )
    assert graph._graph is not None
    assert graph._graph.holds_memory
    for one, other in zip((*graph.values, *graph.averaged), (*direct.values, *direct.averaged), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_bad_step_within_a_graph_changes_nothing(precision: str) -> None:
    state = state_on("cuda", settings(precision=precision))
    run(state, 6)
    before = [value.clone() for value in (*state.values, *state.averaged)]
    images, target = batch()
    state.step(images, target * float("nan"), None, rate=1e-3, step=6, seed=(0, 6))
    assert state.bad.tolist() == [1, 1, 1]
    for old, new in zip(before, (*state.values, *state.averaged), strict=True):
        assert torch.equal(old, new)
    run(state, 1, first=7)
    assert state.bad.tolist() == [1, 0, 1]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_state_is_restored_into_one_that_has_trained_on(device: str, precision: str) -> None:
    """As after a divergence; on CUDA its graph uses tensors that are replaced."""
    state = state_on(device, settings(precision=precision))
    run(state, 5)
    stored: Any = copy.deepcopy(state.state())
    expected = run(state, 6, first=5)
    state.restore(copy.deepcopy(stored))
    assert run(state, 6, first=5) == pytest.approx(expected, rel=1e-4)


class Waiting(nn.Module):
    """A network of which an operation waits for the device, so that it cannot be captured."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(nn.functional.dropout(images, 0.1, training=True))
        return found * (1.0 if float(found.detach().sum()) < 1e9 else 0.0)


@pytest.mark.gpu
@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_network_that_cannot_be_captured_trains_directly(
    precision: str, is_noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_noticed:  # so that the capture itself fails
        monkeypatch.setattr(step_graph, "_waits", lambda *given: False)

    def waiting(direct: bool) -> TrainState:
        state = state_on("cuda", settings(precision=precision))
        state._forward = Waiting(state.model)
        if direct:
            state._graph = None
        return state

    tried, direct = waiting(False), waiting(True)
    assert run(tried, 8) == pytest.approx(run(direct, 8), rel=1e-4, abs=1e-5)
    assert tried.graph_failure
    # memory that another stream has used is given back, and other networks are captured as before
    side, held = torch.cuda.Stream(), []  # type: ignore[no-untyped-call]
    for _ in range(4):
        used = torch.empty(1 << 24, device="cuda")
        used.record_stream(side)
        del used
        torch.cuda.synchronize()
        torch.empty(1, device="cuda")
        held.append(torch.cuda.memory_stats()["active_bytes.all.current"])
    assert held[0] == held[-1]
    other = state_on("cuda", settings())
    run(other, 5)
    assert other._graph is not None
    assert other._graph.holds_memory


@pytest.mark.gpu
def test_a_released_graph_gives_its_memory_back() -> None:
    state = state_on("cuda", settings())
    run(state, 2)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    run(state, 4, first=2)
    state.release_graph()
    assert torch.cuda.memory_reserved() <= before + (4 << 20)  # a segment or two of small tensors


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("cpu", "cpu"),
        pytest.param("cpu", "cuda", marks=pytest.mark.gpu),
        pytest.param("cuda", "cpu", marks=pytest.mark.gpu),
    ],
)
def test_a_run_can_be_resumed_on_another_type_of_device(first: str, second: str) -> None:
    saved, resumed = state_on(first, settings()), state_on(second, settings(), seed=1)
    run(saved, 2)
    if first == second:  # as on CUDA
        for group in saved.optimizer.param_groups:
            group.update(lr=torch.tensor(2e-3), capturable=True)
    resumed.restore(copy.deepcopy(saved.state()))
    assert run(resumed, 2, first=2) == pytest.approx(run(state_on("cpu", settings()), 4)[2:], rel=1e-2)


@pytest.mark.parametrize("message", [
    "CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
])  # fmt: skip
def test_every_out_of_memory_error_is_recognised(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_emulated_bfloat16_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert amp_type(torch.device("cuda")) is torch.float16
