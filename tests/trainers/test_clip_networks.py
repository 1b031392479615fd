"""Networks on clips: sizes, masks, pooling rules, and masking of spectrograms (SpecAugment)."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oof.metrics import roc_auc
from trainers.augment.spec_augment import spec_augment
from trainers.kinds.clips.pooling import RULES, choose_rule, pool_dfdc, pool_nested
from trainers.networks.aasist import SIZES, Aasist
from trainers.networks.clip_network import ClipNetwork
from trainers.networks.clip_settings import ClipNetworkSettings, FusionSettings


@pytest.mark.parametrize(("name", "published"), [("aasist", 297_866), ("aasist-l", 85_306)])
def test_aasist_has_the_published_number_of_parameters(name: str, published: int) -> None:
    network = Aasist(SIZES[name])
    head = nn.Linear(network.num_features, 2)  # the authors' network has two outputs
    assert sum(value.numel() for module in (network, head) for value in module.parameters()) == published


def test_aasist_accepts_windows_of_any_length() -> None:
    network = Aasist(SIZES["aasist-l"]).eval()
    for samples in (6_560, 16_000, 64_600):
        assert network(torch.randn(2, samples)).shape == (2, 160)


class Mean(nn.Module):
    """Encoder whose features are the mean of its input and zeros."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, values: Tensor) -> Tensor:
        mean = self.scale * values.flatten(1).mean(1)
        return torch.stack([mean, *[torch.zeros_like(mean)] * 3], 1)


def inputs(batch: int = 3, moments: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    frames, sound = torch.randn(batch, moments, 3, 8, 8), torch.randn(batch, moments, 40)
    return frames, torch.ones(batch, moments), sound, torch.ones(batch, moments)


VARIANTS: list[dict[str, Any]] = [
    {"temporal": temporal, "pooling": pooling, "fusion": fusion}
    for temporal in ("none", "conv", "transformer")
    for pooling, fusion in (("mean", "gated"), ("attention", "cross_attention"))
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("modalities", ["picture", "sound", "both"])
def test_masked_inputs_have_no_effect(options: dict[str, Any], modalities: str) -> None:
    settings, fusion = ClipNetworkSettings(temporal=options["temporal"], pooling=options["pooling"]), options["fusion"]
    torch.manual_seed(1)
    picture, sound = (Mean() if modalities in (name, "both") else None for name in ("picture", "sound"))
    network = ClipNetwork(picture, sound, settings, FusionSettings(fusion=fusion)).eval()
    frames, frame_mask, voice, sound_mask = inputs()
    frame_mask[:, 3:], sound_mask[:, 3:], sound_mask[1] = 0, 0, 0
    before = network(frames, frame_mask, voice, sound_mask)
    assert before.shape == (3,)
    frames, voice = frames.clone(), voice.clone()
    frames[:, 3:], voice[:, 3:], voice[1] = 9, 9, 9
    assert torch.allclose(network(frames, frame_mask, voice, sound_mask), before, atol=1e-6)
    nothing = torch.zeros_like(frame_mask)
    assert torch.isfinite(network(frames, nothing, voice, nothing)).all()


def test_modality_dropout_affects_only_clips_with_both_modalities() -> None:
    network = ClipNetwork(Mean(), Mean(), ClipNetworkSettings(), FusionSettings(modality_dropout=1.0))
    _, frame_mask, _, sound_mask = inputs(batch=200)
    sound_mask[:50] = 0
    torch.manual_seed(0)
    left_frames, left_sound = network._drop_modalities(frame_mask, sound_mask)
    assert (left_frames[:50] == 1).all()
    hidden = (left_frames[50:].amax(1) == 0).float() + (left_sound[50:].amax(1) == 0).float()
    assert (hidden == 1).all()
    assert 40 < int((left_frames[50:].amax(1) == 0).sum()) < 110


def test_losses_of_single_modalities_ignore_missing_ones() -> None:
    fusion = FusionSettings(modality_dropout=0.0, modality_loss=0.25)
    network = ClipNetwork(Mean(), Mean(), ClipNetworkSettings(), fusion).train()
    frames, frame_mask, sound, sound_mask = inputs()
    sound_mask[2] = 0
    logits, sides, _ = network(frames, frame_mask, sound, sound_mask)
    assert logits.shape == (3,)
    assert [weight.tolist() for _, weight in sides] == [[0.25, 0.25, 0.25], [0.25, 0.25, 0.0]]
    (logits.sum() + sum((side * weight).sum() for side, weight in sides)).backward()
    assert all(value.grad is not None for head in network.side_heads or () for value in head.parameters())


def test_shifted_sound_has_no_modality_dropout_and_no_loss_of_one_modality() -> None:
    fusion = FusionSettings(modality_dropout=1.0, modality_loss=0.25)
    network = ClipNetwork(Mean(), Mean(), ClipNetworkSettings(), fusion).train()
    frames, frame_mask, sound, sound_mask = inputs(batch=40)
    shifted = torch.zeros(40)
    shifted[::2] = 1
    sides = network(frames, frame_mask, sound, sound_mask, shifted).sides
    weights = torch.stack([weight for _, weight in sides])
    assert (weights[:, ::2] == 0).all()
    assert weights[:, 1::2].sum(0).tolist() == [0.25] * 20  # one modality is dropped
    left_frames, left_sound = network._drop_modalities(frame_mask, sound_mask, shifted)
    assert (left_frames[::2] == 1).all()
    assert (left_sound[::2] == 1).all()


# ---- pooling -----------------------------------------------------------------


def clips() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    probabilities = rng.random((40, 9))
    weight = (rng.random((40, 9)) < 0.8).astype(float)
    weight[:, 0] = 1
    return probabilities, weight


@pytest.mark.parametrize("name", RULES)
def test_rules_agree_if_all_moments_do_and_ignore_missing_moments(name: str) -> None:
    probabilities, weight = clips()
    same = np.repeat(np.linspace(0, 1, 40)[:, None], 9, 1)
    assert RULES[name](same, weight) == pytest.approx(np.linspace(0, 1, 40))
    pooled = RULES[name](probabilities, weight)
    changed = np.where(weight > 0, probabilities, 0.99)
    assert RULES[name](changed, weight) == pytest.approx(pooled)
    order = np.random.default_rng(1).permutation(9)
    assert RULES[name](probabilities[:, order], weight[:, order]) == pytest.approx(pooled)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.9] * 5 + [0.3] * 5, 0.9),  # half are confident
        ([0.9] * 4 + [0.3] * 6, 0.54),  # exactly 40 %, and the rule requires more
        ([0.1] * 19 + [0.9], 0.1),  # 95 % below 0.2
        ([0.1] * 9 + [0.9], 0.18),
        ([0.5] * 10, 0.5),
    ],
)
def test_the_rule_of_the_deepfake_detection_challenge_equals_its_definition(row: list[float], expected: float) -> None:
    assert pool_dfdc(np.array([row]), np.ones((1, len(row)))) == pytest.approx([expected])


def planted() -> tuple[Any, Any, Any]:
    """Return clips whose fakes are visible in one of nine moments, so that the top third is the best rule."""
    rng = np.random.default_rng(3)
    target = np.arange(200) % 2
    probabilities = rng.beta(3, 3, (200, 9))
    probabilities[target == 1, 4] = 0.97
    return probabilities, np.ones_like(probabilities), target.astype(np.int8)


def test_the_best_rule_is_chosen_for_each_row_without_its_label() -> None:
    probabilities, weight, target = planted()
    assert choose_rule(probabilities, weight, target) == "top_k"
    pooled, rule, rules = pool_nested(probabilities, weight, target, seed=0)
    assert (rule, rules) == ("top_k", ("top_k", "top_k"))
    assert roc_auc(target, pooled) > roc_auc(target, RULES["mean"](probabilities, weight)) + 0.05


def test_choosing_a_rule_does_not_raise_the_score_of_noise() -> None:
    gains = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        probabilities, target = rng.random((60, 8)), (np.arange(60) % 2).astype(np.int8)
        gains.append(roc_auc(target, pool_nested(probabilities, np.ones_like(probabilities), target, seed)[0]) - 0.5)
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(len(gains))


def test_the_mean_is_used_if_labels_are_uninformative() -> None:
    probabilities, weight = clips()
    assert choose_rule(probabilities, weight, np.zeros(40, np.int8)) == "mean"


# ---- SpecAugment -------------------------------------------------------------


def test_bands_of_frequency_and_time_are_masked() -> None:
    mel = torch.randn(64, 40, 100) + 5
    torch.manual_seed(0)
    changed = spec_augment(mel, 0.2, 0.3, count=1)
    mean = mel.mean((1, 2))
    for row in range(64):
        hidden = changed[row] == mean[row]
        bands, columns = hidden.all(1), hidden.all(0)
        assert bands.sum() <= 0.2 * 40 + 1
        assert columns.sum() <= 0.3 * 100 + 1
        assert torch.equal(hidden, bands[:, None] | columns[None])  # complete bands and nothing else
        assert torch.equal(changed[row][~hidden], mel[row][~hidden])
        for line in (bands, columns):
            assert int((line.int().diff() == 1).sum()) <= 1  # contiguous
    assert torch.equal(spec_augment(mel, 0, 0), mel)
