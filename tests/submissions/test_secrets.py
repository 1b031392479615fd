"""After a long session with every fault, no key is in any file, output, ledger or process argument."""

import base64
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.kaggle_server import KEY, TOKEN, USER, KaggleServer
from tests.support.submissions import make_table
from tests.support.submit_runs import finish, make_folder, start

SECRETS = [KEY, TOKEN, base64.b64encode(f"{USER}:{KEY}".encode()).decode(), "secret-of-the-address"]

LEAK = f"Your key {KEY} and token {TOKEN} are wrong"
Orders = tuple[tuple[str, dict[str, Any]], ...]

WHOLE_STORY: tuple[tuple[tuple[str, ...], int, Orders], ...] = (
    (("submit", "--file", "t0.csv", "--wait"), 0, ()),
    (("submit", "--file", "t1.csv"), 1, (("CreateSubmission", {"status": 401, "message": LEAK}),)),
    (("submit", "--file", "t1.csv"), 1, (("PUT", {"status": 403, "message": LEAK, "shape": "html"}),)),
    (("submit", "--file", "t2.csv"), 0, (("CreateSubmission", {"drop": True, "after": True}),)),
    (("submissions", "sync"), 0, ()),
    (("submissions", "show", "1000"), 0, ()),
    (("download",), 1, (("GET", {"status": 403, "message": LEAK, "shape": "empty"}),)),
    (("download",), 0, ()),
)


class Watcher(threading.Thread):
    """Collects the command lines of all processes of this user that name dfens or its client."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if "client_child" in line or "dfens" in line:
                    self.seen.add(line)
            time.sleep(0.05)


@pytest.mark.parametrize("credentials", ["environment", "file", "token"])
def test_no_key_is_left_in_any_output_or_file(
    credentials: str, kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, home = make_folder(tmp_path / "job"), tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    more = {"HOME": str(home), "VERBOSE": "1", "VERBOSE_OUTPUT": "true"}
    if credentials == "file":
        (home / ".kaggle" / "kaggle.json").write_text(f'{{"username": "{USER}", "key": "{KEY}"}}')
        more |= {"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""}
    if credentials == "token":
        more |= {"KAGGLE_API_TOKEN": TOKEN}
    plain = kaggle.environment
    monkeypatch.setattr(kaggle, "environment", lambda place: {k: v for k, v in (plain(place) | more).items() if v})
    for number in range(3):
        (folder / f"t{number}.csv").write_bytes(make_table(200, value=0.1 + number / 10).data)
    watcher = Watcher()
    watcher.start()
    said = []
    story = WHOLE_STORY if credentials == "file" else WHOLE_STORY[:2]
    for arguments, expected, orders in story:
        for method, fault in orders:
            kaggle.fail(method, **fault)
        code, text = finish(start(kaggle, folder, *arguments))
        said.append(text)
        assert code == expected, text
        assert "Traceback" not in text
    watcher.ended.set()
    watcher.join()
    assert "Kaggle says “Your key *** and token" in said[1]
    assert any("client_child" in line for line in watcher.seen)
    assert set(kaggle.authorizations) - {""}  # the key was used
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "ledger.sqlite" for path in written)
    for secret in SECRETS:
        if secret == TOKEN and credentials != "token":
            continue  # not yet known as a secret, so it is an ordinary word of the server
        assert not [line for line in said if secret in line]
        assert not [line for line in watcher.seen if secret in line]
        assert not [path for path in written if secret.encode() in path.read_bytes()]
