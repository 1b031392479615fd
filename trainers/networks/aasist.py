"""AASIST, a network on raw waveforms, implemented from the paper.

Jung et al., AASIST: Audio Anti-Spoofing Using Integrated Spectro-Temporal Graph Attention Networks, ICASSP 2022:
fixed sinc band-pass filters, residual blocks as in RawNet2 (Tak et al., End-to-End Anti-Spoofing with
RawNet2, ICASSP 2021), and graphs over frequency and time whose nodes attend to each other. About 300,000 parameters
("aasist") or 85,000 ("aasist-l"), no pretraining.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

_FILTERS = 70
_TAPS = 129
_BANDS = _FILTERS // 3  # after the first pooling


@dataclass(frozen=True)
class AasistSize:
    """Channels of the residual blocks, and widths of the first graphs and of the joint graphs."""

    channels: tuple[int, ...]
    graph: int
    joint: int


SIZES = {
    "aasist": AasistSize((32, 32, 64, 64, 64, 64), 64, 32),
    "aasist-l": AasistSize((32, 32, 24, 24, 24, 24), 24, 32),
}


class Aasist(nn.Module):
    """Map waveforms (batch, n_samples) at 16 kHz, in [-1, 1], to features (batch, num_features).

    Accepts any length of at least about 0.4 s; the paper uses 4 s.
    """

    def __init__(self, size: AasistSize) -> None:
        super().__init__()
        self.filters: Tensor
        self.register_buffer("filters", _sinc_filters(), persistent=False)
        self.norm = nn.BatchNorm2d(1)
        channels = (1, *size.channels)
        pairs = list(pairwise(channels))
        self.blocks = nn.Sequential(*(_Residual(a, b, first=index == 0) for index, (a, b) in enumerate(pairs)))
        last, graph, joint = channels[-1], size.graph, size.joint
        self.position = nn.Parameter(torch.randn(1, _BANDS, last))
        self.frequency_graph = _Attention(last, graph)
        self.time_graph = _Attention(last, graph)
        self.frequency_pool, self.time_pool = _Pool(graph, 0.5), _Pool(graph, 0.7)
        self.branches = nn.ModuleList(_Branch(graph, joint) for _ in range(2))
        self.drop, self.drop_branch = nn.Dropout(0.5), nn.Dropout(0.2)
        self.num_features = 5 * joint

    def forward(self, waveform: Tensor) -> Tensor:
        bands = nn.functional.conv1d(waveform[:, None], self.filters)  # (batch, 70, time)
        pooled = nn.functional.max_pool2d(bands.abs()[:, None], 3)
        seen = self.blocks(nn.functional.selu(self.norm(pooled)))  # (batch, channels, 23, time)
        frequency = self.frequency_pool(self.frequency_graph(seen.abs().amax(3).transpose(1, 2) + self.position))
        time = self.time_pool(self.time_graph(seen.abs().amax(2).transpose(1, 2)))
        results = [branch(time, frequency) for branch in self.branches]
        time, frequency, stack = (
            torch.maximum(*(self.drop_branch(result[part]) for result in results)) for part in range(3)
        )
        read = [time.abs().amax(1), time.mean(1), frequency.abs().amax(1), frequency.mean(1), stack[:, 0]]
        features: Tensor = self.drop(torch.cat(read, 1))
        return features


def _sinc_filters() -> Tensor:
    """Return windowed sinc band-pass filters between adjacent points of the mel scale, (70, 1, 129)."""
    mel = np.linspace(0, 2595 * np.log10(1 + 8_000 / 700), _FILTERS + 1)
    edges = 700 * (10 ** (mel / 2595) - 1) / 16_000  # cycles per sample
    taps = np.arange(_TAPS) - (_TAPS - 1) / 2
    low_pass = 2 * edges[:, None] * np.sinc(2 * edges[:, None] * taps)
    return torch.from_numpy(((low_pass[1:] - low_pass[:-1]) * np.hamming(_TAPS))[:, None].astype(np.float32))


class _Residual(nn.Module):
    """Residual block of two convolutions over frequency and time, followed by pooling time by 3."""

    def __init__(self, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        self.before = nn.Identity() if first else nn.Sequential(nn.BatchNorm2d(inputs), nn.SELU())
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, (2, 3), padding=(1, 1)),
            nn.BatchNorm2d(outputs),
            nn.SELU(),
            nn.Conv2d(outputs, outputs, (2, 3), padding=(0, 1)),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1))
        self.pool = nn.MaxPool2d((1, 3))

    def forward(self, values: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.convolutions(self.before(values)) + self.shortcut(values))
        return pooled


def _norm(values: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """Apply batch normalisation to nodes, (batch, nodes, features)."""
    normed: Tensor = norm(values.flatten(0, 1))
    return normed.view(values.shape)


class _Attention(nn.Module):
    """Graph attention: each node aggregates all nodes, weighted by a function of their products."""

    def __init__(self, inputs: int, outputs: int, temperature: float = 2.0) -> None:
        super().__init__()
        self.products = nn.Linear(inputs, outputs)
        self.weight = nn.Parameter(torch.empty(outputs, 1))
        nn.init.xavier_normal_(self.weight)
        self.others, self.own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.drop, self.temperature = nn.Dropout(0.2), temperature

    def forward(self, nodes: Tensor) -> Tensor:
        nodes = self.drop(nodes)
        products = self.products(nodes[:, :, None] * nodes[:, None]).tanh()  # (batch, nodes, nodes, outputs)
        share = (products @ self.weight).squeeze(-1).div(self.temperature).softmax(-1)
        return nn.functional.selu(_norm(self.others(share @ nodes) + self.own(nodes), self.norm))


class _Pool(nn.Module):
    """Graph pooling: keep the given fraction of nodes with the highest scores, weighted by their scores."""

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.score, self.share, self.drop = nn.Linear(features, 1), share, nn.Dropout(0.3)

    def forward(self, nodes: Tensor) -> Tensor:
        scores = self.score(self.drop(nodes)).sigmoid()  # (batch, nodes, 1)
        count = max(1, int(nodes.shape[1] * self.share))
        best = scores.topk(count, dim=1).indices.expand(-1, -1, nodes.shape[2])
        kept: Tensor = (nodes * scores).gather(1, best)
        return kept


class _JointAttention(nn.Module):
    """Graph attention over nodes of two kinds, with separate weights within and between the kinds.

    A stack node aggregates all nodes and does not influence them.
    """

    def __init__(self, inputs: int, outputs: int, temperature: float = 100.0) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(nn.Linear(inputs, inputs) for _ in range(2))
        self.products, self.stack_products = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        self.weights = nn.ParameterList(torch.empty(outputs, 1) for _ in range(4))  # time, frequency, between, stack
        for weight in self.weights:
            nn.init.xavier_normal_(weight)
        self.others, self.own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        self.stack_others, self.stack_own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.drop, self.temperature = nn.Dropout(0.2), temperature

    def forward(self, time: Tensor, frequency: Tensor, stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = time.shape[1]
        nodes = self.drop(torch.cat([self.kinds[0](time), self.kinds[1](frequency)], 1))
        is_time = torch.arange(nodes.shape[1], device=nodes.device) < count
        products = self.products(nodes[:, :, None] * nodes[:, None]).tanh()
        within_time, within_frequency, between, of_stack = self.weights
        scores = torch.where(
            is_time[:, None, None] & is_time[None, :, None],
            products @ within_time,
            torch.where(
                ~is_time[:, None, None] & ~is_time[None, :, None], products @ within_frequency, products @ between
            ),
        )
        share = scores.squeeze(-1).div(self.temperature).softmax(-1)
        gathered = self.stack_products(nodes * stack).tanh() @ of_stack  # (batch, nodes, 1)
        weight = gathered.div(self.temperature).softmax(1).transpose(1, 2)
        stack = self.stack_others(weight @ nodes) + self.stack_own(stack)
        out = nn.functional.selu(_norm(self.others(share @ nodes) + self.own(nodes), self.norm))
        return out[:, :count], out[:, count:], stack


class _Branch(nn.Module):
    """Two layers of joint attention with pooling between them; the second is residual."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.randn(1, 1, inputs))
        self.first, self.second = _JointAttention(inputs, outputs), _JointAttention(outputs, outputs)
        self.time_pool, self.frequency_pool = _Pool(outputs, 0.5), _Pool(outputs, 0.5)

    def forward(self, time: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time, frequency, stack = self.first(time, frequency, self.stack.expand(len(time), -1, -1))
        time, frequency = self.time_pool(time), self.frequency_pool(frequency)
        more = self.second(time, frequency, stack)
        return time + more[0], frequency + more[1], stack + more[2]
