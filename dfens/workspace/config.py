"""Read and check dfens.toml; each section becomes a frozen dataclass of its package."""

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from ensemble.settings import BlendSettings, check_seed
from oof.errors import ConfigError
from oof.ids import check_case, check_name
from oof.paths import resolve_path
from submissions.message import check_template
from submissions.redaction import Redactor
from submissions.settings import SubmissionSettings
from trainers.data.settings import DataSettings
from trainers.kinds.base import ModelSettings
from trainers.kinds.registry import kind_names, settings_type
from trainers.presets import with_preset
from trainers.rules import rules_by_name

T = TypeVar("T")
# names in work/trainers, where each model has a folder with its name
_FOLDERS = ("ablations", "archive", "cache", "clips")
_FILES = (".json", ".parquet")
# current names of renamed settings, whose former names are still read
_RENAMED = {
    "keep": "checkpoint",
    "tune": "trainable",
    "clip": "grad_clip",
    "colour": "color_jitter",
    "shift": "translate",
    "resize": "downscale",
    "toward_test": "importance_weighting",
    "settle_s": "list_lag_s",
}
_LONGEST_INTEGER = 2**63  # the range of integers that every TOML parser must support
_TOML_WORDS = {"a valid array": 'a list such as ["a", "b"]', "an object": "a table such as { key = 1 }"}


def check_slug(slug: str) -> None:
    """Refuse what cannot be the slug of a competition, such as its title or URL.

    Raises:
        ConfigError: if it has other characters than letters, digits and '-'.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", slug):
        raise ConfigError(
            f"{slug!r:.200} is not a competition slug. It is the last part of the competition's URL on Kaggle, such as "
            f"multi-ffdi: letters, digits and '-'."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompetitionSettings:
    """Section [competition].

    slug: the last part of the competition's URL on Kaggle; empty for data that is not on Kaggle.
    metric: metric for blends and the order of tables.
    submissions_per_day: your own limit per UTC day, below Kaggle's; None for Kaggle's limit alone, which always
    applies.
    max_parameters: maximum number of parameters, for each network and for all members of a blend together; each seed
    of a model counts, and the networks of its folds count as one.
    rules: rules on size and pretraining against which `dfens check` compares the models: multi-ffdi, multi-ffdv, or
    none.
    """

    slug: str = ""
    metric: str = "auc"
    submissions_per_day: int | None = None
    max_parameters: int | None = None
    rules: str = "none"

    def __post_init__(self) -> None:
        if self.slug:
            check_slug(self.slug)
        for name in ("submissions_per_day", "max_parameters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"[competition] {name} = {value}: expected 1 or more.")
        if self.rules != "none":
            rules_by_name(self.rules)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """Section [folds].

    k: number of folds. seed: seed of the shuffle.
    group: rows that must share a fold: none, duplicates, clusters, or column:NAME.
    sealed: share of the rows, by group, that no command trains on or scores until dfens unseal scores a blend on them.
    """

    k: int = 5
    seed: int = 0
    group: str = "none"
    sealed: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 2:
            raise ConfigError(f"[folds] k = {self.k}: at least 2 folds are needed.")
        check_seed("[folds] ", self.seed, ConfigError)
        if self.group not in ("none", "duplicates", "clusters") and not re.fullmatch("column:.+", self.group):
            raise ConfigError(
                f"[folds] group = {self.group!r} is unknown. Use none, duplicates, clusters, or column:NAME."
            )
        if not 0 <= self.sealed <= 0.5:
            raise ConfigError(f"[folds] sealed = {self.sealed:g}: expected a share from 0 to 0.5, such as 0.1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubmitSettings:
    """Section [submit].

    message: description of a submission on Kaggle; {blend}, {score}, {nested_score} and more are filled in.
    """

    message: str = "{blend} oof={score:.5f} nested={nested_score:.5f}"

    def __post_init__(self) -> None:
        check_template(self.message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The content of dfens.toml."""

    competition: CompetitionSettings
    data: DataSettings
    folds: FoldSettings
    models: Mapping[str, ModelSettings]
    blend: BlendSettings
    submit: SubmitSettings
    submissions: SubmissionSettings


def no_config(path: Path) -> ConfigError:
    """Return the error of a command that needs the dfens.toml at a path where there is none."""
    return ConfigError(
        f"There is no {path.name} in {path.parent}. Run dfens init to write one, or name its folder with -C DIR. "
        f"Without one, start with dfens oof import and predictions made elsewhere."
    )


def read_config(path: Path) -> Config:
    """Read dfens.toml.

    Paths in it are relative to its own folder.

    Raises:
        ConfigError: if the file is missing, cannot be read, is not valid TOML, has an unknown key (suggesting the
            nearest known one), or a value of the wrong type or out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as err:
        raise no_config(path) from err
    except OSError as err:
        raise ConfigError(
            f"{path} cannot be read ({err.strerror}). Expected a text file that this user can read."
        ) from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not UTF-8 text (byte {err.start}). Save it as UTF-8.") from err
    except ValueError as err:  # invalid TOML, or an integer of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {err}. Correct that line; strings need quotes.") from err
    except RecursionError as err:
        raise ConfigError(f"{path} is nested too deeply. Sections have one level, models two.") from err
    return parse_config(raw, path.parent)


def parse_config(raw: Mapping[str, Any], root: Path) -> Config:
    """Convert the tables of a dfens.toml into checked settings; `root` is the base of relative paths."""
    sections = {"competition", "data", "folds", "train", "models", "blend", "submit", "submissions"}
    _known(raw, sections, "dfens.toml", "section")
    for name in sections:
        if not isinstance(raw.get(name, {}), Mapping):
            raise ConfigError(f"dfens.toml: {name} must be a section, written [{name}].")
    competition = _section(CompetitionSettings, raw, "competition")
    blend = dict(raw.get("blend", {}))
    blend.setdefault("optimize", competition.metric)
    _known_metric(competition.metric, "[competition] metric")
    if blend["optimize"] != "none":
        _known_metric(blend["optimize"], "[blend] optimize")
    data = _section(DataSettings, raw, "data")
    return Config(
        competition=competition,
        data=dataclasses.replace(data, root=resolve_path(root, data.root)),
        folds=_section(FoldSettings, raw, "folds"),
        models=_models(raw.get("train", {}), raw.get("models", {}), root),
        blend=build(BlendSettings, blend, "[blend]"),
        submit=_section(SubmitSettings, raw, "submit"),
        submissions=_section(SubmissionSettings, raw, "submissions"),
    )


def _models(defaults: Mapping[str, Any], models: Mapping[str, Any], root: Path) -> dict[str, ModelSettings]:
    """Merge each [models.NAME] with its preset and the defaults in [train]; defaults unknown to a kind are ignored."""
    fields_by_kind = {kind: _field_names(settings_type(kind)) for kind in kind_names()}
    defaults = _renamed(defaults, set().union(*fields_by_kind.values()), "[train]")
    _known(defaults, set().union(*fields_by_kind.values()), "[train]", "key")
    found: dict[str, ModelSettings] = {}
    used = set[str]()
    check_case(models, label="[models.{}]")
    for name, own in models.items():
        where = f"[models.{check_name(name, 'model name')}]"
        if name in _FOLDERS or name.endswith(_FILES):
            raise ConfigError(f"{where}: work/trainers/{name} is used otherwise. Choose another name for the model.")
        if not isinstance(own, Mapping):
            raise ConfigError(f"dfens.toml: models.{name} must be a section, written {where}.")
        kind = own.get("kind", defaults.get("kind", "timm"))
        if not isinstance(kind, str) or kind not in fields_by_kind:
            raise ConfigError(f"{where} kind = {kind!r} is unknown{_nearest(str(kind), fields_by_kind)}")
        inherited = {key: value for key, value in defaults.items() if key in fields_by_kind[kind]}
        own = _renamed(own, fields_by_kind[kind], where)
        values = inherited | dict(own)
        if "preset" in fields_by_kind[kind]:
            try:
                values = with_preset(own, inherited)
            except ConfigError as err:
                raise ConfigError(f"{where} {err}") from err
        found[name] = build(settings_type(kind), values | {"kind": kind}, where)
        used |= {key for key in inherited if values[key] is inherited[key]}
    _check_unused({key: value for key, value in defaults.items() if key not in used})
    return found


def _check_unused(defaults: Mapping[str, Any]) -> None:
    """Check the kind, preset, types and choices of values in [train] that no model uses.

    A value must be valid for one of the kinds that have the setting. Ranges are checked only with a model, since they
    depend on its other settings.
    """
    kind = defaults.get("kind", "timm")
    if kind not in kind_names():
        raise ConfigError(f"[train] kind = {kind!r} is unknown{_nearest(str(kind), kind_names())}")
    try:
        with_preset({}, defaults)
    except ConfigError as err:
        raise ConfigError(f"[train] {err}") from err
    types_by_key: dict[str, list[Any]] = {}
    for name in kind_names():
        for key, hint in get_type_hints(settings_type(name)).items():
            if key != "kind" and key in defaults and hint not in types_by_key.setdefault(key, []):
                types_by_key[key].append(hint)
    for key, hints in types_by_key.items():
        errors = []
        for hint in hints:
            try:
                build(dataclasses.make_dataclass("Default", [(key, hint)]), {key: defaults[key]}, "[train]")
            except ConfigError as err:
                errors.append(err)
        if len(errors) == len(hints):
            raise errors[0]


def _section(cls: type[T], raw: Mapping[str, Any], name: str) -> T:
    return build(cls, raw.get(name, {}), f"[{name}]")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Create a settings dataclass from a TOML table; `where` is the name of the table in messages.

    Types are strict: "10" is not a number, 1.5 not an integer, 1 not a boolean.
    """
    from pydantic import TypeAdapter, ValidationError

    values = _renamed(values, _field_names(cls), where)
    leaves = [leaf for key, value in values.items() for leaf in _leaves(value, f"{where} {key}")]
    for place, value in leaves:
        _check_value(value, place)
    _known(values, _field_names(cls), where, "key")
    for key, inner in _tables_of(cls).items():
        if isinstance(values.get(key), Mapping):
            _known(values[key], _field_names(inner), f"{where} {key}", "key")
    try:
        # validated as JSON, where a list may become a tuple and text a path, but no other types are converted
        found = TypeAdapter(cls).validate_json(json.dumps(dict(values), default=str), strict=True)
    except ConfigError as err:  # from the settings' own checks, which do not know the table's name
        raise err if str(err).startswith("[") else ConfigError(f"{where} {err}") from err
    except ValidationError as err:
        lines = []
        expected_by_key: dict[str, list[str]] = {}  # a key with several allowed types has one problem for each
        for problem in err.errors():
            key = str(problem["loc"][0]) if problem["loc"] else "value"
            if problem["type"] == "missing":
                lines.append(f"{where} has no {key}, which must be given.")
            else:
                words = problem["msg"].removeprefix("Input should be ")
                expected_by_key.setdefault(key, []).append(_TOML_WORDS.get(words, words))
        for key, expected in expected_by_key.items():
            lines.append(f"{where} {key} = {_shown(key, values.get(key))}: expected {' or '.join(expected)}.")
        raise ConfigError("\n".join(lines) + "\nCorrect dfens.toml.") from err
    for place, value in leaves:  # last, since the errors above state which values are allowed
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{place} = {value}: expected a finite number.")
    return found


def _leaves(value: object, where: str) -> Iterator[tuple[str, object]]:
    """Yield a value, or the values inside a list or table, each with its place for messages."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, where)
    else:
        yield where, value


def _check_value(value: object, where: str) -> None:
    """Refuse values of TOML that no setting can have: dates and huge integers."""
    if isinstance(value, int) and abs(value) >= _LONGEST_INTEGER:
        raise ConfigError(f"{where} is an integer of {value.bit_length()} bits: expected one of 63 bits at most.")
    elif isinstance(value, date | time):  # a datetime is a date
        raise ConfigError(
            f'{where} = {value} is a date or time. If it is meant as text, write it in quotes: "{value}".'
        )


def _shown(key: str, value: object) -> str:
    """Return a value for a message; the URL of a database may contain a password, even if it is mistyped."""
    return "(not shown)" if key == "ledger" else Redactor([]).redact(repr(value))


def _known_metric(name: object, where: str) -> None:
    """Refuse a misspelt metric now instead of after training."""
    from oof.metrics import metric_by_name

    try:
        metric_by_name(str(name))
    except ConfigError as err:
        raise ConfigError(f"{where}: {err}") from err


def _tables_of(cls: type) -> dict[str, type]:
    """Return the settings of a section that are tables themselves, by name."""
    kinds = [(name, kind) for name, hint in get_type_hints(cls).items() for kind in (hint, *get_args(hint))]
    return {name: kind for name, kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


def _field_names(cls: type) -> set[str]:
    return {item.name for item in dataclasses.fields(cls)}


def _renamed(values: Mapping[str, Any], known: set[str], where: str) -> dict[str, Any]:
    """Return a table with the current names of its settings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        new = _RENAMED.get(key, key) if key not in known else key
        name = new if new in known else key
        if name != key and name in values:
            raise ConfigError(f"{where}: {key!r} is the former name of {name!r}, which is given, too. Remove {key!r}.")
        found[name] = value
    return found


def _known(values: Mapping[str, Any], known: set[str], where: str, what: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown {what} {key!r}{_nearest(key, known)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message on a misspelt word: the nearest known one, and all of them unless they are many."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    listed = f"Known: {', '.join(names)}."
    if not close:
        return f". {listed}"
    return f"; did you mean {close[0]!r}?" + (f" {listed}" if len(names) <= 20 else "")
