"""dfens.toml is fully checked, and an error names the wrong key and the nearest valid one."""

from pathlib import Path

import pytest

from dfens.recipes import recipe_names, recipe_text
from dfens.workflows.ablate import parse_change, variant_name
from dfens.workspace.config import parse_config, read_config
from oof.errors import ConfigError
from oof.ids import is_name

TABLE = """
[data]
layout = "table"
train = "train.csv"
train_dir = "train"
test = "sample.csv"
test_dir = "test"
id = "img_name"
target = "target"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "dfens.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid(name: str, tmp_path: Path) -> None:
    config = read_config(write(tmp_path, recipe_text(name, "some-slug")))
    assert config.models
    assert config.competition.slug == "some-slug"
    assert config.data.root == tmp_path / "data"


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[folds\]: unknown key 'sed'; did you mean 'seed'\?"):
        read_config(write(tmp_path, TABLE + "[folds]\nsed = 1\n"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('tta = "hflp"', r"\[train\] tta = 'hflp': expected 'none', 'hflip'"),
        ('fusion = "gate"', r"\[train\] fusion = 'gate': expected '"),
        ('epochs = "10"', r"\[train\] epochs = '10': expected a valid integer"),
        ('inputs = ["rgb", "yuv"]', r"\[train\] inputs = \['rgb', 'yuv'\]: expected 'rgb', 'ycbcr'"),
        ('kind = "clip"', r"\[train\] kind = 'clip' is unknown\. Known: audio, av, frames"),
        ('preset = "vit-smal"', r"\[train\] preset = 'vit-smal' is unknown; did you mean 'vit-small'"),
        ("degrade = { probability = true }", r"\[train\] degrade = .*: expected a valid number"),
        ("lr = 2025-01-01", r"\[train\] lr = 2025-01-01 is a date or time"),
    ],
)
@pytest.mark.parametrize("models", ["", '[models.a]\nkind = "linear"\n'])
def test_defaults_that_no_model_uses_are_checked(value: str, message: str, models: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(write(tmp_path, f"{TABLE}[train]\n{value}\n{models}"))


@pytest.mark.parametrize(("value", "own"), [('tta = "hflp"', '"hflip"'), ("epochs = 3.0", "3")])
def test_defaults_that_every_model_overrides_are_checked(value: str, own: str, tmp_path: Path) -> None:
    model = f'[models.a]\nbackbone = "resnet18"\n{value.partition(" ")[0]} = {own}\n'
    with pytest.raises(ConfigError, match=r"\[train\] (tta = 'hflp'|epochs = 3\.0): expected"):
        read_config(write(tmp_path, f"{TABLE}[train]\n{value}\n{model}"))


def test_defaults_that_one_kind_accepts_are_valid(tmp_path: Path) -> None:
    text = '[train]\nfusion = "gated"\nepochs = 3\ntta = "hflip"\nbatch_size = "auto"\npretrained = false\n'
    assert read_config(write(tmp_path, TABLE + text)).models == {}


def test_an_unknown_section_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown section 'fold'; did you mean 'folds'\?"):
        read_config(write(tmp_path, TABLE + "[fold]\nk = 3\n"))


def test_an_unknown_key_of_a_model_names_the_model(tmp_path: Path) -> None:
    text = TABLE + '[models.a]\nbackbone = "resnet18"\nimage_sise = 64\n'
    with pytest.raises(ConfigError, match=r"\[models.a\]: unknown key 'image_sise'; did you mean 'image_size'"):
        read_config(write(tmp_path, text))


@pytest.mark.parametrize(("old", "new"), [
    ('keep = "best"', "checkpoint"),
    ('tune = "norm"', "trainable"),
    ("clip = 1.5", "grad_clip"),
    ("colour = 0.25", "color_jitter"),
    ("shift = 0.25", "translate"),
    ("resize = 0.25", "downscale"),
])  # fmt: skip
def test_a_former_key_of_a_model_is_read(tmp_path: Path, old: str, new: str) -> None:
    own, by_default = '[models.a]\nbackbone = "resnet18"\n', "[train]\n"
    current = f"{new} = {old.split(' = ')[1]}\n"
    expected = read_config(write(tmp_path, TABLE + own + current)).models
    assert expected != read_config(write(tmp_path, TABLE + own)).models
    assert read_config(write(tmp_path, TABLE + own + old)).models == expected
    assert read_config(write(tmp_path, TABLE + by_default + f"{old}\n" + own)).models == expected
    other = f"[train]\n{new} = {'0.75' if '0.' in old or '1.' in old else chr(34) + 'all' + chr(34)}\n"
    if new != "checkpoint":  # the former name in a model takes precedence over the current one in [train]
        assert read_config(write(tmp_path, TABLE + other + own + old)).models == expected
    with pytest.raises(ConfigError, match=rf"\[models.a\]: '{old.split()[0]}' is the former name of '{new}'"):
        read_config(write(tmp_path, TABLE + own + current + old))


def test_former_keys_of_other_sections_are_read(tmp_path: Path) -> None:
    text = "[blend]\ntoward_test = true\n[submissions]\nsettle_s = 5\n"
    found = read_config(write(tmp_path, TABLE + text))
    assert found.blend.importance_weighting
    assert found.submissions.list_lag_s == 5


def test_an_unknown_default_of_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[train\]: unknown key 'epoch'; did you mean 'epochs'"):
        read_config(write(tmp_path, TABLE + "[train]\nepoch = 3\n"))


@pytest.mark.parametrize(("line", "message"), [
    ('k = "5"', "k = '5': expected a valid integer"),
    ("k = 2.5", "k = 2.5: expected a valid integer"),
    ("k = 1", "at least 2 folds"),
    ('group = "persons"', "group = 'persons' is unknown"),
    ("seed = -1", "seed = -1 is out of range"),
    ("seed = [1]", "expected a valid integer"),
])  # fmt: skip
def test_a_value_of_the_wrong_type_is_named(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(write(tmp_path, f"{TABLE}[folds]\n{line}\n"))


@pytest.mark.parametrize("line", [
    '[submissions]\nledger = ["postgresql://me:HUNTER2@h/d"]',
    '[submissions]\nledger = { password = "HUNTER2" }',
    '[submissions]\nid_column = ["postgresql://me:HUNTER2@h/d"]',
    '[submissions]\nledgr = "postgresql://me:HUNTER2@h/d"',
    'submissions = "postgresql://me:HUNTER2@h/d"',
    '[submit]\nmessage = ["password=HUNTER2"]',
    '[submissions]\nledger = "postgresql://me:HUNTER2@h/d',
])  # fmt: skip
def test_no_message_shows_a_password(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path, line + "\n" if line[0] != "[" else f"{TABLE}{line}\n"))
    assert "HUNTER2" not in str(caught.value)


def test_a_value_out_of_range_names_its_section(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\[models.a\] epochs = -1 is out of range"):
        read_config(write(tmp_path, TABLE + '[models.a]\nbackbone = "resnet18"\nepochs = -1\n'))
    with pytest.raises(ConfigError, match=r"^\[models.a\] pseudo.weight = 0.0 is out of range"):
        read_config(write(tmp_path, TABLE + '[models.a]\nbackbone = "resnet18"\npseudo = { weight = 0 }\n'))
    with pytest.raises(ConfigError, match=r"^\[competition\] submissions_per_day = 0: expected 1 or more"):
        read_config(write(tmp_path, TABLE + "[competition]\nsubmissions_per_day = 0\n"))


def test_a_model_without_a_backbone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[models.a\] has no backbone, which must be given"):
        read_config(write(tmp_path, TABLE + "[models.a]\nepochs = 3\n"))


def test_all_allowed_types_of_a_value_are_listed(tmp_path: Path) -> None:
    text = TABLE + '[models.a]\nbackbone = "resnet18"\nbatch_size = "large"\ntta = "flip"\n'
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path, text))
    size, tta, remedy = str(caught.value).splitlines()
    assert size == "[models.a] batch_size = 'large': expected a valid integer or 'auto'."
    assert tta == "[models.a] tta = 'flip': expected 'none', 'hflip', 'flips', 'd4' or 'ten_crop'."
    assert remedy == "Correct dfens.toml."


@pytest.mark.parametrize(("section", "key"), [("competition", "metric"), ("blend", "optimize")])
def test_a_misspelt_metric_is_refused_before_anything_is_trained(section: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"\[{section}\] {key}: Unknown metric 'aucc'; did you mean 'auc'"):
        read_config(write(tmp_path, TABLE + f'[{section}]\n{key} = "aucc"\n'))


def test_models_inherit_and_override_the_defaults(tmp_path: Path) -> None:
    text = TABLE + (
        "[train]\nepochs = 3\nimage_size = 64\n"
        '[models.a]\nbackbone = "resnet18"\n[models.b]\nbackbone = "resnet18"\nepochs = 7\n'
        '[models.c]\nkind = "linear"\n'
    )
    models = read_config(write(tmp_path, text)).models
    assert [getattr(models[name], "epochs", None) for name in "abc"] == [3, 7, None]
    assert models["c"].kind == "linear"


def test_the_blend_optimises_the_competitions_metric(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, TABLE + '[competition]\nmetric = "log_loss"\n'))
    assert config.blend.optimize == "log_loss"


def test_an_unknown_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind = 'tim' is unknown; did you mean 'timm'"):
        read_config(write(tmp_path, TABLE + '[models.a]\nkind = "tim"\n'))


def test_a_model_name_may_not_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder name"):
        read_config(write(tmp_path, TABLE + '[models."../a"]\nbackbone = "resnet18"\n'))


def test_a_model_cannot_have_the_name_of_the_cache_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[models.cache\]: work/trainers/cache is used otherwise"):
        read_config(write(tmp_path, TABLE + '[models.cache]\nkind = "linear"\n'))


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not valid TOML: .*line 2"):
        read_config(write(tmp_path, '[data]\nlayout = ffdi"\n'))


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "dfens.toml").write_bytes('[competition]\nslug = "x"\n'.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"dfens\.toml is not UTF-8 text \(byte 0\)\. Save it as UTF-8\."):
        read_config(tmp_path / "dfens.toml")


def test_no_file_names_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no dfens\.toml in .*Run dfens init"):
        read_config(tmp_path / "dfens.toml")


def test_a_section_written_as_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"folds must be a section, written \[folds\]"):
        parse_config({"folds": 5}, tmp_path)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "dfens.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TABLE.encode().replace(b"\n", b"\r\n"))
    assert read_config(path).data.layout == "table"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[models.m]\nkind = ["x"]\n', r"\[models.m\] kind = \['x'\] is unknown"),
        ("[submissions]\nwait_limit_s = inf\n", r"\[submissions\] wait_limit_s = inf: expected .* at most 2.592e\+06"),
        ("[submissions]\nhighest = inf\n", r"\[submissions\] highest = inf: expected a finite number"),
        ('[models.m]\nbackbone = "resnet18"\nlr = nan\n', r"\[models.m\] lr = nan .* must be from 1e-12 to 1000"),
        ("[models.m]\nimage_size = nan\n", r"\[models.m\] image_size = nan: expected a valid integer"),
        ('[models.m]\nkind = "frames"\nfaces = nan\n', r"\[models.m\] faces = nan: expected a valid string"),
        ("[models.m]\ntrainable = inf\n", r"\[models.m\] trainable = inf: expected 'all', 'norm', 'head' or"),
        ("[train]\nlr = nan\n", r"\[train\] lr = nan: expected a finite number"),
        ('[competition]\nslug = "Multi FFDI"\n', r"\[competition\] 'Multi FFDI' is not a competition slug"),
        ('[competition]\nslug = "https://www.kaggle.com/c/x"\n', "the last part of the competition's URL"),
        ("a = " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
        (f"[folds]\nk = {'9' * 5000}\n", "is not valid TOML: Exceeds the limit"),
        (f"[folds]\nk = 0x{'f' * 5000}\n", r"\[folds\] k is an integer of 20000 bits: expected one of 63 bits"),
        ("[competition]\nslug = 2020-01-01\n", r"\[competition\] slug = 2020-01-01 is a date or time.*in quotes"),
        (
            '[submit]\nmessage = "{nested}"\n',
            r"\[submit\] The message has an unknown field \{nested\}; did you mean nested",
        ),
        ('[submit]\nmessage = " "\n', r"\[submit\] The message ' ' is empty when filled in"),
        ('[blend]\nmembers = ["a", ""]\n', r"\[blend\] members has an empty name"),
        ('[folds]\ngroup = "column:"\n', r"\[folds\] group = 'column:' is unknown. Use none, .* column:NAME"),
        ("[submit]\nmessage = 07:32:00\n", r"\[submit\] message = 07:32:00 is a date or time"),
        ("[blend]\nmembers = [2020-01-01]\n", r"\[blend\] members = 2020-01-01 is a date or time"),
        (
            '[models.m]\nbackbone = "resnet18"\nbackbone_options = { drop_rate = inf }\n',
            r"\[models.m\] backbone_options.drop_rate = inf: expected a finite number",
        ),
        ('[models.m]\npreset = ["convnext"]\n', r"\[models.m\] preset = \['convnext'\] is unknown"),
        ("[train]\npreset = { a = 1 }\n[models.m]\n", r"\[models.m\] preset = \{'a': 1\} is unknown"),
        (
            '[models.Net]\nkind = "linear"\n[models.net]\nkind = "linear"\n',
            r"\[models.net\] and \[models.Net\] differ only in case",
        ),
        ('[models."quarantine.json"]\nkind = "linear"\n', r"work/trainers/quarantine.json is used otherwise"),
    ],
)
def test_invalid_values_of_any_setting_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "dfens.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "dfens.toml").mkdir()
    with pytest.raises(ConfigError, match=r"dfens.toml cannot be read \(Is a directory\)"):
        read_config(tmp_path / "dfens.toml")


def test_the_data_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse_config({"data": {"root": "~/data"}}, tmp_path).data.root == tmp_path / "home" / "data"
    with pytest.raises(ConfigError, match="The home folder in '~no-such-user/data' is unknown"):
        parse_config({"data": {"root": "~no-such-user/data"}}, tmp_path)


@pytest.mark.parametrize(("change", "found"), [
    ("lr=1e-3,epochs=2", {"lr": 1e-3, "epochs": 2}),
    ("lr=1 # a comment", {"lr": 1}),
    ("lr=1\nepochs=2", {"lr": "1\nepochs=2"}),  # one value that is text, not a second setting that gets lost
    (f"lr={'9' * 5000}", {"lr": "9" * 5000}),
])  # fmt: skip
def test_values_of_a_variant_are_read_as_in_dfens_toml(change: str, found: dict[str, object]) -> None:
    assert parse_change(change) == found


def test_different_variants_have_different_names() -> None:
    changes = (
        'weights=a/b.pth weights=a-b.pth weights=a_b.pth weights=A-b.pth lr=1 lr=1. lr=-1 lr=- lr= inputs=["rgb"] '
        f"backbone={'x' * 90} backbone={'x' * 91}"
    )
    names = [variant_name(change) for change in changes.split()]
    assert len({name.casefold() for name in names}) == len(names)
    assert {"weights-a-b.pth", "lr-1", "lr--1", "inputs-rgb"} <= set(names)
    assert all(is_name(name) for name in names)


def test_a_setting_given_twice_in_one_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="gives epochs twice. For two variants, repeat --set"):
        parse_change("epochs=3,epochs=4")
