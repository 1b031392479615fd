"""Documentation agrees with the program: links, commands, settings and code."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from dfens.workspace.config import CompetitionSettings, FoldSettings, SubmitSettings, parse_config
from docs.figures.self_blend import draw, steps
from docs.fill_snippets import filled
from docs.reference import commands_page, setting_rows, settings_page, walk_commands
from docs.run_chapters import runnable, snippets
from ensemble.settings import BlendSettings
from submissions.settings import SubmissionSettings
from trainers.data.settings import DataSettings
from trainers.kinds.registry import kind_names, settings_type

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMANDS = {" ".join(path): command for path, command in walk_commands()}
PAGES = sorted(
    page
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    if not {"_build", "reference"} & set(page.relative_to(ROOT).parts)
)
SNIPPETS = sorted((DOCS / "snippets").glob("*"))
CHAPTERS = sorted((DOCS / "guide").glob("*.md"))
_FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the code blocks of a page in one of the languages; a snippet is one block in the language of its suffix."""
    if page.suffix != ".md":
        if page.suffix.lstrip(".") in languages:
            yield page.read_text()
        return
    for fence in _FENCE.finditer(page.read_text()):
        if fence.group(3).strip() in languages:
            yield fence.group(4)


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def command_lines(page: Path) -> Iterator[str]:
    """Yield the commands `dfens …` of a page, from code blocks and from single backticks."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    for block in blocks(page, "console"):
        lines += [line[2:] for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    if page.suffix == ".md":
        lines += re.findall(r"(?<!`)`(dfens [^`]+)`(?!`)", prose(page).replace("\n", " "))
    for line in lines:
        for part in re.split(r"&&|;| \| ", re.sub(r"(^|\s)#.*", "", line)):
            words = shlex.split(part)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if "-m" in words and words[words.index("-m") + 1 :][:1] == ["dfens"]:
                words = words[words.index("-m") + 1 :]
            if words and words[0] == "dfens":
                yield " ".join(map(shlex.quote, words))


def is_placeholder(word: str) -> bool:
    return word in ("…", "...") or re.fullmatch(r"\[?[A-Z][A-Z_:]*\]?…?", word) is not None


def problem_of(line: str) -> str | None:
    """Return the error of a command, or None: an unknown command, option or choice, or a wrong number of arguments."""
    words = shlex.split(line)
    command, words = COMMANDS["dfens"], words[1:]
    path = "dfens"
    context = click.Context(command, info_name="dfens")
    while isinstance(command, click.Group):
        try:
            _, words, _ = command.make_parser(context).parse_args(words)
        except click.UsageError as err:
            return f"{line}: {err.format_message()}"
        if not words or is_placeholder(words[0]):
            return None
        path = f"{path} {words[0]}"
        if path not in COMMANDS:
            return f"{line}: there is no command {path}"
        command, words = COMMANDS[path], words[1:]
        context = click.Context(command, info_name=path, parent=context)
    try:
        values, left, _ = command.make_parser(context).parse_args([word.strip("[]") for word in words])
    except click.UsageError as err:
        return f"{line}: {err.format_message()}"
    if left:
        return f"{line}: too many arguments: {left}"
    for parameter in command.params:
        given = values.get(parameter.name)
        for value in given if isinstance(given, list | tuple) else [given]:
            if isinstance(value, str) and not is_placeholder(value) and not isinstance(parameter.type, click.Path):
                try:
                    parameter.type.convert(value, parameter, context)
                except click.UsageError as err:
                    return f"{line}: {err.format_message()}"
    return None


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and MyST generate them."""
    titles = re.findall(r"^#{1,6} +(.+?) *$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        if found.parent == DOCS / "reference":
            assert found.name in ("commands.md", "settings.md")
        elif not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_in_pages_are_those_of_their_files(page: Path) -> None:
    text = page.read_text()
    assert filled(text) == text, "run python -m docs.fill_snippets"
    assert not re.search(r"^`{3}\{(literal)?include\} \S*snippets", text, re.MULTILINE)  # not rendered on a forge


def test_every_snippet_is_shown() -> None:
    shown = {
        name for page in PAGES for name in re.findall(r"^<!-- snippet: (\S+) -->$", page.read_text(), re.MULTILINE)
    }
    assert shown == {snippet.name for snippet in SNIPPETS}


def test_the_commands_of_every_chapter_can_be_run_in_a_row() -> None:
    for chapter in CHAPTERS:
        assert snippets(chapter), f"{chapter.name} has no commands"
        for snippet in snippets(chapter):
            text, left_out = runnable(snippet, 80)
            assert all("--images 80" in line for line in text.splitlines() if line.startswith("dfens demo"))
            assert all("download" in line or "--wait" in line for line in left_out)


@pytest.mark.parametrize("page", [*PAGES, *SNIPPETS], ids=name_of)
def test_commands_exist_with_their_options(page: Path) -> None:
    assert [problem for line in command_lines(page) if (problem := problem_of(line))] == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("dfens trian", "no command dfens trian"),
        ("dfens oof lst", "no command dfens oof lst"),
        ("dfens train --folds 0-4", "--folds"),
        ("dfens blend --transform cube", "cube"),
        ("dfens submissions diff A B C", "too many"),
        ("dfens -D x train", "-D"),
    ],
)
def test_a_wrong_command_in_the_guide_is_found(line: str, problem: str) -> None:
    assert problem in (problem_of(line) or "")


@pytest.mark.parametrize("page", [*PAGES, *SNIPPETS], ids=name_of)
def test_toml_is_accepted_by_the_program(page: Path) -> None:
    for block in blocks(page, "toml"):
        raw = tomllib.loads(block)
        for model in raw.get("models", {}).values():  # a fragment may omit other settings
            if model.get("kind", "timm") == "timm" and "preset" not in model:
                model.setdefault("backbone", "resnet18")
        parse_config(raw, ROOT)


@pytest.mark.parametrize("page", [*PAGES, *SNIPPETS], ids=name_of)
def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python", "py"):
        compile(block, name_of(page), "exec")


def test_there_are_nine_chapters() -> None:
    assert [chapter.name[:2] for chapter in CHAPTERS] == [f"{number}-" for number in range(1, 10)]


def test_the_reference_has_every_command_and_option() -> None:
    page = commands_page()
    for path, command in COMMANDS.items():
        assert f"# {path}\n" in page
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert max(parameter.opts, key=len) in page


@pytest.mark.parametrize(
    "settings",
    [
        *(CompetitionSettings, DataSettings, FoldSettings, BlendSettings, SubmitSettings, SubmissionSettings),
        *map(settings_type, kind_names()),
    ],
)
def test_every_setting_is_described(settings: type) -> None:
    rows = setting_rows(settings)
    assert [name for name, _, _, meaning in rows if not meaning] == []
    assert all(f"| `{name}` |" in settings_page() for name, *_ in rows)


def test_the_figure_of_the_first_chapter_matches_its_text() -> None:
    pictures = {title.partition(":")[0]: picture.astype(float) for title, picture in steps().items()}
    inside = pictures["2  the mask m"] > 0.95
    outside = pictures["2  the mask m"] < 0.05
    colour = pictures["4  colour"] - 128
    residual = pictures["6  noise residual of the fake"]
    seam = pictures["5  the seam"]
    moved = [abs(np.median(colour[part], axis=0)).mean() for part in (outside, inside)]
    assert moved[0] > 4 * moved[1]  # the surroundings were recolored
    assert residual[outside].mean() > 2 * residual[inside].mean()  # the copy is smoother
    assert seam[inside | outside].max() < 0.2
    assert seam.max() > 0.9


def test_the_figure_can_be_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "steps.png")
    assert cv2.imread(str(tmp_path / "steps.png")) is not None


def test_the_messages_in_troubleshooting_are_those_of_the_program() -> None:
    source = "\n".join(
        path.read_text()
        for package in ("dfens", "ensemble", "oof", "submissions", "trainers")
        for path in (ROOT / package).rglob("*.py")
    )
    titles = re.findall(r"^### `(.+)`$", (DOCS / "howto/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(titles) > 10
    assert [title for title in titles if title not in source] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=name_of)
def test_the_chinese_chapter_has_the_commands_settings_and_numbers_of_the_english_one(chapter: Path) -> None:
    facts = []
    for page in (chapter, DOCS / "zh" / chapter.name):
        text = page.read_text().replace("/zh/", "/guide/")
        included = re.findall(r"^<!-- snippet: (\S+) -->$", text, re.MULTILINE)
        code = set(re.findall(r"`([^`\n]+)`", prose(page)))
        numbers = set(re.findall(r"(?<![\w.])\d+(?:[.,]\d+)+|(?<![\w.])\d{2,}(?!\w|\.\d)", prose(page)))
        facts.append((included, code, numbers))
    english, chinese = facts
    assert chinese[0] == english[0]
    assert chinese[1] ^ english[1] == set()
    assert chinese[2] ^ english[2] == set()
