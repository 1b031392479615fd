"""Load weights of a backbone from a file, whatever its nesting and prefixes, without executing code in it."""

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oof.errors import StoreError, TrainingError, examples
from oof.files import read_error
from trainers.runtime.device import is_out_of_memory

# Plain values that training scripts store next to the weights; loading them executes no code from the file.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    PosixPath,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "bool")),
    np.float64(0).__reduce__()[0],  # numpy's function that creates a scalar; its module differs between versions
]
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")  # preferred to the plain weights if both fit
_DEPTH = 3


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the head, or of both heads of distilled transformers, which timm returns as a tuple."""
    backbone: Any = getattr(model, "backbone", model)
    found = backbone.get_classifier()
    heads = found if isinstance(found, (tuple, list)) else [found]
    return [parameter for head in heads if isinstance(head, nn.Module) for parameter in head.parameters()]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights from a file into a network, without a head for other classes; resize position embeddings.

    The file is a safetensors or PyTorch file. Its tensors may be in a nested dictionary (`state_dict`,
    `model_state_dict`, …) and have a common prefix (`module.`, `model.`, `module.encoder.`): the dictionary and prefix
    for which all tensors except the head fit are chosen. A file that dfens wrote for this network fits completely.

    Raises:
        TrainingError: if the file is missing or not of these formats, or its tensors do not fit.
    """
    sets = list(_tensor_sets(_read(path), ""))
    if not sets:
        raise TrainingError(
            f"pretrained = '{path}' contains no named tensors. It must be a .safetensors file, or a PyTorch file "
            f"with the state_dict() of a network."
        )
    wanted, part = model.state_dict(), model
    whole = [
        _Match(found.place, "", dict(found.tensors), [], [])
        for found in sets
        if found.tensors.keys() == wanted.keys() and _fitting(wanted, found.tensors).keys() == wanted.keys()
    ]
    if not whole:
        part = getattr(model, "backbone", model)
        matches = [match for found in sets for match in _matches(part, found)]
        whole = [match for match in matches if match.is_whole]
        if not whole:
            raise TrainingError(_misfit(path, max(matches, key=lambda match: len(match.fitting)), part))
    part.load_state_dict(_the_only(path, whole).fitting, strict=False)


def _the_only(path: Path, whole: "list[_Match]") -> "_Match":
    """Return the set of averaged weights if there is one, else the only set.

    Raises:
        TrainingError: if there are several, or it contains NaN or infinite values.
    """
    chosen = [match for match in whole if any(name in _AVERAGED for name in match.path.split("."))] or whole
    places = sorted({match.path for match in chosen})
    if len(places) > 1:
        raise TrainingError(
            f"pretrained = '{path}' contains {len(places)} sets of weights that fit: {examples(places)}. Save the one "
            f"to start from in a separate file."
        )
    broken = [name for name, value in chosen[0].fitting.items() if not torch.isfinite(value).all()]
    if broken:
        raise TrainingError(
            f"pretrained = '{path}' contains NaN or infinite values: {examples(broken)}. The training that wrote it "
            f"diverged: use an earlier checkpoint."
        )
    return chosen[0]


def save_fold_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the weights of a fold, with a checksum of each tensor."""
    save_file(dict(weights), path, {"crc32": json.dumps(_checksums(weights))})


def load_fold_weights(model: nn.Module, path: Path, prefix: str = "") -> None:
    """Load the weights of a fold trained by dfens, which must fit completely.

    Args:
        model: the network, or the part of one whose weights have the prefix in the file.
        path: written by `save_fold_weights`; files of earlier versions have no checksums.
        prefix: of the names of the weights, which is removed; others are ignored.

    Raises:
        StoreError: if the file cannot be read, is broken or does not fit; the message says what to do.
    """
    try:
        found = load_file(path)
        with safe_open(path, "pt") as file:
            expected = (file.metadata() or {}).get("crc32")
        if expected is not None and json.loads(expected) != _checksums(found):
            raise ValueError("its checksums do not match")
        own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        model.load_state_dict(own)
    except OSError as err:  # of this machine: the file may be intact
        raise StoreError(read_error(path, err)) from err
    except Exception as err:  # SafetensorError, RuntimeError for tensors that do not fit
        if isinstance(err, MemoryError) or is_out_of_memory(err):
            raise
        raise StoreError(
            f"The weights {path} cannot be read ({first_line(err)}). Remove this file, and the predictions of "
            f"the fold in work/oof/models if there are any: dfens train then trains the fold again."
        ) from err


def _checksums(weights: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: zlib.crc32(value.cpu().reshape(-1).view(torch.uint8).numpy().data) for name, value in weights.items()}


def _read(path: Path) -> object:
    """Return the contents of a file: tensors, numbers, strings, and lists and dictionaries of them."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # each library raises different exceptions for a broken file
        objects = re.search(r"GLOBAL (\S+)", str(err))
        # torch's message recommends loading the file in a way that can run code
        found = "torch.load does not know its content" if "weights_only" in str(err) else first_line(err)
        reason = (
            f"it contains Python objects ({objects[1]}), and loading those runs code. Save the weights alone, by "
            f"torch.save(model.state_dict(), file) where it was trained"
            if objects
            else f"{found}. It must be a .safetensors file, or a PyTorch file that contains only tensors"
        )
        raise TrainingError(f"pretrained = '{path}' cannot be read as weights: {reason}.") from err


@dataclass(frozen=True)
class _TensorSet:
    """Named tensors and their location in the file, "" for the top level."""

    place: str
    tensors: Mapping[str, Tensor]


def _tensor_sets(found: object, place: str, depth: int = _DEPTH) -> Iterator[_TensorSet]:
    """Yield the dictionaries of tensors in a file."""
    if isinstance(found, Mapping):
        tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
        if tensors:
            yield _TensorSet(place, tensors)
        inner = list(found.items())
    elif isinstance(found, Sequence) and not isinstance(found, str):
        inner = list(enumerate(found))
    else:
        return
    for key, value in inner if depth else []:
        yield from _tensor_sets(value, f"{place}.{key}".lstrip("."), depth - 1)


@dataclass(frozen=True)
class _Match:
    """The match of a set of tensors, without a prefix, with a backbone.

    missing: tensors that the backbone needs, except its head. foreign: tensors for parts that the backbone does not
    have, for example from a deeper network of the same family.
    """

    place: str
    prefix: str
    fitting: dict[str, Tensor]
    missing: list[str]
    foreign: list[str]

    @property
    def path(self) -> str:
        """The location of the tensors with their prefix, without a dot at its ends."""
        return f"{self.place}.{self.prefix}".strip(".")

    @property
    def is_whole(self) -> bool:
        return bool(self.fitting) and not self.missing and not self.foreign


def _matches(backbone: nn.Module, found: _TensorSet) -> list[_Match]:
    """Match a set of tensors with the backbone for each candidate prefix."""
    wanted = backbone.state_dict()
    heads = set(map(id, head_parameters(backbone)))
    head = {name for name, value in backbone.named_parameters() if id(value) in heads}
    buffers = {name for name, _ in backbone.named_buffers() if not name.endswith(("running_mean", "running_var"))}
    parts = {name for name, _ in backbone.named_children()}
    head_parts = tuple({name.rpartition(".")[0] + "." for name in head})
    matches = []
    for prefix in _prefixes(list(wanted), list(found.tensors)):
        bare = {name.removeprefix(prefix): value for name, value in found.tensors.items() if name.startswith(prefix)}
        converted = _converted(backbone, bare)
        fitting = _fitting(wanted, converted)
        missing = [name for name in wanted if name not in fitting and name not in head and name not in buffers]
        foreign = [
            name
            for name in converted
            if name not in wanted and name.split(".")[0] in parts and not name.startswith(head_parts)
        ]
        matches.append(_Match(found.place, prefix, fitting, missing, foreign))
    return matches


def _prefixes(wanted: list[str], names: list[str]) -> list[str]:
    """Return candidate prefixes: none, those in front of some wanted names, and the common prefix of all names."""
    found = dict.fromkeys([""])
    for anchor in (wanted[0], wanted[len(wanted) // 2]):
        found.update(dict.fromkeys(name.removesuffix(anchor) for name in names if name.endswith("." + anchor)))
    first, last = min(names), max(names)
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    common = first[: first.rfind(".", 0, same) + 1]
    found[common] = None  # for files with the original authors' names, which timm converts
    return list(found)


def _fitting(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors whose name, shape and kind of number (float or integer) match those of the network."""
    return {
        name: value
        for name, value in found.items()
        if name in wanted
        and isinstance(value, Tensor)
        and value.shape == wanted[name].shape
        and value.is_floating_point() == wanted[name].is_floating_point()
    }


def _converted(backbone: nn.Module, found: dict[str, Tensor]) -> dict[str, Any]:
    """Return tensors converted by timm for this backbone: original authors' names and position embeddings."""
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(found)
    try:
        converted: dict[str, Any] = convert(dict(found), backbone)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError):  # another backbone's file
        return dict(found)
    return converted


def _misfit(path: Path, best: _Match, backbone: nn.Module) -> str:
    where = f" in {best.place!r}" if best.place else ""
    where += f" after {best.prefix!r}" if best.prefix else ""
    count = len(backbone.state_dict())
    text = f"pretrained = '{path}' fits {len(best.fitting)} of the {count} tensors of this backbone"
    text += f", looked for{where}" if where else ""
    if best.missing:
        text += f"; {len(best.missing)} are missing: {examples(best.missing)}"
    if best.foreign:
        text += f"; it has {len(best.foreign)} that this backbone does not have: {examples(best.foreign)}"
    return f"{text}. It belongs to another backbone, or its structure is unknown."


def first_line(err: Exception) -> str:
    """Return the first line of an error message, without terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(err)).strip()
    return (text.splitlines() or [type(err).__name__])[0][:200]
