"""Submit, sync, list, select and rebuild with the unmodified client and a local server."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.ensemble import make_workspace
from tests.support.kaggle_server import SLUG, KaggleServer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    found = KaggleServer()
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("KAGGLE") or name.lower().endswith("proxy")]:
        monkeypatch.delenv(name)
    for name, value in found.environment(home).items():
        monkeypatch.setenv(name, value)
    yield found
    found.close()


def test_a_submission_is_listed_selected_and_rebuilt(tmp_path: Path, server: KaggleServer) -> None:
    folder = tmp_path / "work here"
    folder.mkdir()
    store, _, _ = make_workspace(folder, rows=300, models=4)
    config = (folder / "dfens.toml").read_text()
    (folder / "dfens.toml").write_text(config.replace('"tiny"', f'"{SLUG}"'))
    (folder / "data").mkdir()
    rows = "".join(f'"{name}",0\r\n' for name in store.test_ids)
    (folder / "data" / "sample_submission.csv").write_bytes(f'\ufeff"id","target"\r\n{rows}'.encode())
    for name, members in (("first", "m0,m1"), ("second", "m2,m3")):
        run(folder, "blend", "--name", name, "--members", members)

    server.polls_until_scored = 0
    server.public_score = "0.87654"
    run(folder, "submit", "first", "--wait")
    run(folder, "submit", "second")
    run(folder, "submit", "m0")
    for made, score in zip(server.submissions[1:], ("0.85000", "0.86000"), strict=True):
        made.status, made.public_score = "COMPLETE", score
    server.add("web.csv", "by hand", "0.80000")
    run(folder, "submissions", "sync")

    listed = json.loads(run(folder, "submissions", "list", "--json").stdout)
    assert {item["blend"]: item["public_score"] for item in listed["submissions"]} == {
        "first": 0.87654,
        "second": 0.85,
        "m0": 0.86,
        "": 0.8,
    }
    assert listed["cv_lb_correlation"]["count"] == 3
    chosen = json.loads(run(folder, "submissions", "select", "--draws", "100", "--json").stdout)
    assert len(chosen["candidates"]) == 3
    assert len(chosen["left_out"]) == 1
    ranks = json.loads(run(folder, "submissions", "leaderboard", "--team", "the team", "--json").stdout)
    assert next(iter(ranks["ranks"].values()))["rank"] == 2

    # the reference is what the server received, not the files in the workspace
    for item in server.submissions[:3]:
        made_again = json.loads(run(folder, "submissions", "rebuild", str(item.ref), "--json").stdout)
        assert Path(made_again["path"]).read_bytes() == item.data
        assert made_again["source"].split()[0] in ("blend", "model")
    same = json.loads(run(folder, "submissions", "diff", "first", made_again["path"], "--json").stdout)
    assert same["rows"] == 50
