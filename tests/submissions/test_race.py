"""Many processes submit at once: never more than the remaining allowance, and each reports its outcome."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from submissions.ledger import Ledger
from tests.support.kaggle_server import KaggleServer
from tests.support.submissions import make_table
from tests.support.submit_runs import finish, make_folder, start

pytestmark = pytest.mark.slow  # eight processes at a time

PROCESSES, LEFT = 8, 3


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_eight_processes_with_three_slots_make_three_submissions(
    database: str, kaggle: KaggleServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url: str | Path = tmp_path / "team" / "work" / "submissions" / "ledger.sqlite"
    more = ""
    if database == "postgresql":
        made: Callable[[], str] = request.getfixturevalue("new_postgres_url")
        url = made()
        more = f'ledger = "{url}"\n'
    folder = make_folder(tmp_path / "team", more=more)
    for number in range(PROCESSES):
        (folder / f"table{number}.csv").write_bytes(make_table(200, value=0.5 + number / 100).data)
    kaggle.used_today, kaggle.create_delay_s = 5 - LEFT, 0.1
    running = [
        start(kaggle, folder, "submit", "--file", str(folder / f"table{number}.csv")) for number in range(PROCESSES)
    ]
    ended = [finish(process) for process in running]
    assert Counter(code for code, _ in ended) == {0: LEFT, 1: PROCESSES - LEFT}, ended
    assert len(kaggle.submissions) == LEFT
    assert kaggle.count("PUT") == LEFT  # the others did not even upload
    for code, said in ended:
        assert ("Submitted table" in said) if code == 0 else ("are used up" in said and "Nothing was sent" in said)
    entries = Ledger(url).list()
    assert [entry.status for entry in entries] == ["pending"] * LEFT
    assert {entry.ref for entry in entries} == {item.ref for item in kaggle.submissions}


def test_four_processes_with_the_same_file_send_it_once(kaggle: KaggleServer, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "same")
    running = [start(kaggle, folder, "submit", "--file", str(folder / "table.csv")) for _ in range(4)]
    ended = [finish(process) for process in running]
    assert Counter(code for code, _ in ended) == {0: 1, 1: 3}, ended
    assert len(kaggle.submissions) == 1
    assert sum("The same bytes were submitted" in said for _, said in ended) == 3
