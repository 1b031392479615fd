"""Run commands of dfens in this process, in a folder with a small competition."""

from pathlib import Path

from click.testing import CliRunner, Result

from dfens.cli import cli
from tests.support.competitions import make_table

LINEAR_CONFIG = """
[competition]
slug = "tiny"
[data]
layout = "table"
root = "data"
id = "img_name"
[folds]
k = 2
[models.pixels]
kind = "linear"
image_size = 8
[models.trees]
kind = "linear"
classifier = "extra_trees"
image_size = 8
"""


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    """Run `dfens -C folder arguments`; it must end with this exit code, and without a traceback."""
    result = CliRunner().invoke(cli, ["-C", str(folder), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def make_linear_competition(folder: Path, rows: int) -> None:
    """Write images, labels and LINEAR_CONFIG, and assign folds."""
    make_table(folder / "data", rows=rows, test_rows=3)
    (folder / "dfens.toml").write_text(LINEAR_CONFIG)
    run(folder, "folds")
