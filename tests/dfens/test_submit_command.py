"""`dfens submit` and `dfens submissions sync`, end to end against a server on this machine."""

import csv
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from dfens.workflows.draft import message_fields
from dfens.workflows.ledger import open_ledger
from dfens.workspace.paths import Workspace
from oof.errors import StoreError
from oof.git import GitState, git_state
from submissions.entry import Entry
from submissions.ledger import Ledger
from submissions.message import FIELDS
from tests.support.commands import run
from tests.support.ensemble import make_workspace
from tests.support.kaggle_server import KEY, KaggleServer
from tests.support.rights import on_read_only_disk

MORE = """
[submissions]
list_lag_s = 0.6
retry_first_s = 0.05
retries = 2
poll_first_s = 0.05
wait_limit_s = 600.0
"""


@pytest.fixture(scope="module")
def blended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blended")
    store, _, _ = make_workspace(folder)
    (folder / "dfens.toml").write_text((folder / "dfens.toml").read_text() + MORE)
    (folder / "data").mkdir()
    rows = "".join(f"{name},0\r\n" for name in store.test_ids)
    (folder / "data" / "sample_submission.csv").write_bytes(f"id,target\r\n{rows}".encode())
    run(folder, "blend", "--name", "early", "--members", "m0,m1")
    run(folder, "blend", "--name", "late")
    return folder


@pytest.fixture
def folder(blended: Path, tmp_path: Path) -> Path:
    """A separate copy of the folder."""
    return Path(shutil.copytree(blended, tmp_path / "copy"))


@pytest.fixture
def server(online: KaggleServer) -> KaggleServer:
    online.slug, online.entered = "tiny", ["tiny"]
    return online


# ---- dry run ----------------------------------------------------------------


def test_dry_run_writes_the_newest_blend_without_credentials_or_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("submissions.kaggle.client_process.ClientProcess.call", lambda *args: pytest.fail("a call"))
    said = run(folder, "submit", "--dry-run").stdout
    (path,) = (folder / "work" / "submissions").glob("late-*.csv")
    assert str(path) in said
    for text in (
        "50 rows, header id,target",
        "Checked ids: the 50",
        "no NaN",
        "Nothing was sent. Next: dfens submit late",
    ):
        assert text in said
    data = path.read_bytes()
    assert data.startswith(b"id,target\r\nt0,0.")
    assert len(list(csv.reader(data.decode().splitlines()))) == 51
    assert not (folder / "work" / "submissions" / "ledger.sqlite").exists()
    value = json.loads(run(folder, "submit", "--dry-run", "--json").stdout)
    assert (value["path"], value["rows"], value["next"]) == (str(path), 50, "dfens submit late")
    assert value["message"].startswith("late oof=0.")


def test_blends_models_and_files_can_be_named(folder: Path) -> None:
    assert run(folder, "submit", "early", "--dry-run", "--json").stdout.count('"early') >= 1
    model = json.loads(run(folder, "submit", "m1", "--dry-run", "--json").stdout)
    assert "nested=n/a" in model["message"]
    by_file = json.loads(run(folder, "submit", "--file", model["path"], "--dry-run", "--json").stdout)
    assert by_file["sha256"] == model["sha256"]
    assert by_file["message"] == f"{Path(model['path']).stem} oof=n/a nested=n/a"
    assert by_file["next"].startswith("dfens submit --file work/submissions/m1-")
    assert (
        run(folder, *by_file["next"].split()[1:], "--dry-run", "--json").stdout == json.dumps(by_file, indent=2) + "\n"
    )
    lost = run(folder, "submit", "nothing", "--dry-run", code=1)
    assert "There is no blend or model 'nothing'; existing ones:" in lost.stderr


def test_the_id_column_of_the_labels_may_have_another_name_in_the_sample_submission(folder: Path) -> None:
    config, sample = folder / "dfens.toml", folder / "data" / "sample_submission.csv"
    config.write_text(config.read_text().replace("[data]", '[data]\nid = "img_name"'))
    lines = sample.read_text().splitlines()
    for first, header in ((",id,target", "id"), (",target,img_name", "img_name")):
        numbered = [f"{row},{line}" for row, line in enumerate(lines[1:])]
        if header == "img_name":  # found by its name in any place
            numbered = [",".join((row, value, id_)) for row, id_, value in (line.split(",") for line in numbered)]
        sample.write_text("\n".join([first, *numbered]) + "\n")
        found = run(folder, "submit", "m0", "--dry-run").stdout
        assert f"{len(lines) - 1} rows, header {first}" in found
        assert "Checked values of 'target'" in found


@pytest.mark.parametrize(("start", "end"), [("", "\r"), ("\n\n", "\n"), ("\ufeff\r\n", "\r\n")])
def test_the_header_is_the_first_line_that_is_not_empty(start: str, end: str, folder: Path) -> None:
    ids = [f"t{row}" for row in range(50)]
    lines = ["id,target", *(f"{name},{row / 50}" for row, name in enumerate(ids)), ""]
    (folder / "x.csv").write_bytes((start + end.join(lines)).encode())
    found = json.loads(run(folder, "submit", "--file", "x.csv", "--dry-run", "--json").stdout)
    assert (found["header"], found["rows"]) == ("id,target", 50)


@pytest.mark.parametrize("stem", ["my table (1)", "it's", "n" * 250, "é" * 120])
def test_any_name_of_a_file_can_be_submitted_as_shown(stem: str, folder: Path) -> None:
    made = json.loads(run(folder, "submit", "m1", "--dry-run", "--json").stdout)
    shutil.copy(made["path"], folder / f"{stem}.csv")
    found = json.loads(run(folder, "submit", "--file", f"{stem}.csv", "--dry-run", "--json").stdout)
    command = shlex.split(found["next"])
    assert (folder / command[-1]).read_bytes() == Path(made["path"]).read_bytes()
    again = json.loads(run(folder, *command[1:], "--dry-run", "--json").stdout)
    assert again["path"] == found["path"]


@pytest.mark.parametrize(
    ("column", "what"),
    [("real", "class 0 (real)"), ("is_real", "class 0 (real)"), ("prob_0", "class 0 (real)"),
     ("real_vs_fake", "both classes")],
)  # fmt: skip
def test_a_prediction_column_of_class_0_is_refused_until_it_is_confirmed(column: str, what: str, folder: Path) -> None:
    """Predictions of fake in a column of real are an inverted submission."""
    sample = folder / "data" / "sample_submission.csv"
    rows = [line.split(",")[0] for line in sample.read_text().splitlines()[1:]]
    sample.write_text("".join([f"id,{column}\n", *(f"{name},0.5\n" for name in rows)]))
    said = run(folder, "submit", "--dry-run", code=1).stderr
    assert f"'{column}'" in said
    assert f"named after {what}" in said
    assert f'prediction_column = "{column}"' in said
    assert not list((folder / "work" / "submissions").glob("late-*.csv"))

    config = folder / "dfens.toml"
    written = config.read_text()
    config.write_text(written.replace("[submissions]", f'[submissions]\nprediction_column = "{column}"'))
    run(folder, "submit", "--dry-run")
    config.write_text(written.replace("[data]", f'[data]\ntarget = "{column}"'))  # the labels of training
    (path,) = (folder / "work" / "submissions").glob("late-*.csv")
    path.unlink()
    run(folder, "submit", "--dry-run")
    (path,) = (folder / "work" / "submissions").glob("late-*.csv")
    config.write_text(written)
    run(folder, "submit", "--file", str(path), "--dry-run")


def test_columns_that_are_not_filled_are_mentioned(folder: Path, server: KaggleServer) -> None:
    """Probabilities of both classes no longer sum to 1 if only one of them is filled."""
    sample = folder / "data" / "sample_submission.csv"
    rows = [line.split(",")[0] for line in sample.read_text().splitlines()[1:]]
    sample.write_text("".join([",id,real,fake\n", *(f"{row},{name},0.5,0.5\n" for row, name in enumerate(rows))]))
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace("[submissions]", '[submissions]\nprediction_column = "fake"'))
    for arguments in (["--dry-run"], []):
        said = " ".join(run(folder, "submit", *arguments).output.split())
        assert "Note: Only 'fake' is filled; other columns keep the sample's values: real." in said
    assert len(server.submissions) == 1


def test_messages_are_filled_from_the_blend(folder: Path) -> None:
    said = run(folder, "submit", "--dry-run", "--json", "--message", "{members} {metric} {nested_score:.3f} {rows}")
    assert json.loads(said.stdout)["message"].startswith("m0+m1+m2 auc 0.")
    wrong = run(folder, "submit", "--dry-run", "--message", "{nested}", code=1)
    assert "unknown field {nested}; did you mean nested_score" in wrong.stderr


def test_a_message_with_a_key_is_refused_before_it_is_stored(
    folder: Path, server: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", f"{KEY}\r\n")
    for more in ((), ("--dry-run",)):
        refused = run(folder, "submit", "--message", f"run {KEY}!", *more, code=1)
        assert "The message contains a key, token or password of your credentials" in refused.stderr
        assert KEY not in refused.output
    kernel = ("--kernel", "alice/notebook", "--kernel-version", "3", "--file", "submission.csv")
    assert KEY not in run(folder, "submit", *kernel, "--message", KEY, code=1).output
    assert not server.submissions
    assert not (folder / "work" / "submissions").exists()


def test_a_bad_file_is_refused_with_examples(folder: Path) -> None:
    sample = (folder / "data" / "sample_submission.csv").read_text()
    (folder / "bad.csv").write_text(sample.replace("t7,", "t77,"))
    said = run(folder, "submit", "--file", str(folder / "bad.csv"), "--dry-run", code=1).stderr
    assert "1 of 50 ids are missing: t7." in said
    assert "There is no submission file at" in run(folder, "submit", "--file", "none.csv", "--dry-run", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("late", "--file", "x.csv"), "Give only one of"),
        (("--kernel", "a/b", "--file", "x.csv"), "--kernel-version and --file together"),
        (("--kernel-version", "3"), "--kernel-version and --file together"),
        (("--kernel", "a/b", "--kernel-version", "3", "--file", "x.csv", "--dry-run"), "--dry-run checks a table"),
        (("--kernel", "a/b", "--kernel-version", "0", "--file", "x.csv"), "1<=x"),
        (("--kernel", "a/b", "--kernel-version", "9" * 20, "--file", "x.csv"), "1<=x"),
        (("--kernel", "a/b", "--kernel-version", "3", "--file", ""), "--kernel-version and --file together"),
    ],
)
def test_wrong_usage_is_code_2(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    assert message in run(folder, "submit", *arguments, code=2).stderr


# ---- submitting -------------------------------------------------------------


def test_a_submission_records_how_its_blend_was_made(folder: Path, server: KaggleServer) -> None:
    said = run(folder, "submit").stdout
    (sent,) = server.submissions
    assert f"Submitted {sent.file_name} to tiny as 1000; 4 left today." in said
    assert sent.data.startswith(b"id,target\r\nt0,0.")
    (entry,) = open_ledger(Workspace(folder)).list("tiny")
    assert entry.blend == "late"
    assert entry.score is not None
    assert entry.nested_score is not None
    assert sent.description == entry.message == f"late oof={entry.score:.5f} nested={entry.nested_score:.5f}"
    assert set(entry.members) == {"m0", "m1", "m2"}
    assert sum(entry.weights.values()) == pytest.approx(1)
    assert entry.provenance["blend_fingerprint"]
    assert (entry.who, entry.dfens_version) == ("alice", "0.1.0")
    assert len(entry.config_sha256) == 64
    assert (folder / entry.path).read_bytes() == sent.data
    refused = run(folder, "submit", code=1).stderr
    assert "The same bytes were submitted on" in refused
    assert "dry-run" not in refused
    shown = run(folder, "submit", "--dry-run").stdout
    assert "the same bytes were submitted as 1000" in shown
    assert shown.endswith("Nothing was sent. Next: dfens submissions show 1000\n")
    assert "as 1001" in run(folder, "submit", "--again").stdout


def test_wait_shows_score_change_cv_and_rank(folder: Path, server: KaggleServer) -> None:
    server.polls_until_scored = 2
    first = run(folder, "submit", "early", "--wait")
    assert "Submitted early-" in first.stderr
    assert "Public score 0.91234; CV 0." in first.stdout
    assert "would rank 2 of 3 on" in first.stdout
    server.public_score = "0.92"
    second = run(folder, "submit", "late", "--wait").stdout
    assert "Public score 0.92; +0.00766 against the best so far (0.91234)" in second
    value = json.loads(run(folder, "submit", "m0", "--wait", "--json").stdout)
    assert (value["ref"], value["status"], value["public_score"], value["rank"], value["left_today"]) == (
        1002,
        "complete",
        0.92,
        2,
        2,
    )


def test_a_truncated_upload_is_told_and_changes_the_exit_code(folder: Path, server: KaggleServer) -> None:
    server.fail("PUT", share=0.5)
    assert "bytes that were sent: the upload was truncated" in run(folder, "submit", "early", code=3).stdout
    assert server.count("CreateSubmission") == 1


def shorten_wait(folder: Path) -> None:
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace("wait_limit_s = 600.0", "wait_limit_s = 0.5"))


def test_exit_codes_distinguish_refused_and_pending(folder: Path, server: KaggleServer) -> None:
    server.final_status = "ERROR"
    assert "Kaggle cannot score it: Evaluation Exception" in run(folder, "submit", "early", "--wait", code=3).stdout
    server.polls_until_scored = 10_000
    shorten_wait(folder)
    assert "Still pending after 0.5 s. Run the same command or" in run(folder, "submit", "--wait", code=4).stdout
    server.fail("GetSubmission", status=401, message="Unauthenticated", times=9)
    lost = run(folder, "submit", "m0", "--wait", code=4).stdout
    assert "It is submitted, but its score could not be queried." in lost
    assert run(folder, "submissions", "list").stdout.count("pending") == 2


def test_the_same_command_resumes_waiting(folder: Path, server: KaggleServer) -> None:
    server.polls_until_scored = 10_000
    plain = (folder / "dfens.toml").read_text()
    shorten_wait(folder)
    run(folder, "submit", "--wait", code=4)
    (folder / "dfens.toml").write_text(plain)
    server.polls_until_scored = 0
    again = run(folder, "submit", "--wait")
    assert "The same file was sent before and has no score yet. It is 1000" in again.stderr
    assert "Public score 0.91234" in again.stdout
    assert len(server.submissions) == 1
    assert "The same bytes were submitted" in run(folder, "submit", code=1).stderr


@pytest.mark.parametrize(
    ("final", "code", "message"),
    [("COMPLETE", 0, "Public score 0.91234"), ("ERROR", 3, "Kaggle cannot score it: Evaluation Exception")],
)
def test_the_same_command_shows_the_score_that_sync_has_recorded(
    final: str, code: int, message: str, folder: Path, server: KaggleServer
) -> None:
    shorten_wait(folder)
    server.polls_until_scored = 10_000
    run(folder, "submit", "--wait", code=4)
    (sent,) = server.submissions
    sent.status, sent.public_score = final, "0.91234" if code == 0 else ""
    sent.error = "" if code == 0 else "Evaluation Exception"
    run(folder, "submissions", "sync")
    again = run(folder, "submit", "--wait", code=code)
    assert "The same file was sent before. It is 1000" in again.stderr
    assert message in again.stdout
    assert server.count("PUT") == server.count("CreateSubmission") == len(server.submissions) == 1


def test_an_unavailable_leaderboard_is_left_out(folder: Path, server: KaggleServer) -> None:
    server.fail("DownloadLeaderboard", status=403, message="hidden", times=9)
    said = run(folder, "submit", "--wait").stdout
    assert "Public score 0.91234" in said
    assert "rank" not in said


def test_errors_are_code_1_with_reason_and_remedy(folder: Path, server: KaggleServer) -> None:
    server.used_today = 5
    limit = run(folder, "submit", code=1).stderr
    assert "Today's submissions to tiny are used up (5 made); the count starts again in" in limit
    assert "00:00 UTC" in limit
    server.used_today = 1
    config = (folder / "dfens.toml").read_text()
    (folder / "dfens.toml").write_text(config.replace("[competition]", "[competition]\nsubmissions_per_day = 1"))
    assert "submissions_per_day = 1 are used up (1 made today)" in run(folder, "submit", code=1).stderr
    (folder / "dfens.toml").write_text(config)
    server.used_today = 0
    server.fail("CreateSubmission", status=400, message="Submissions are only accepted from Notebooks", shape="flat")
    assert "dfens submit --kernel OWNER/SLUG" in run(folder, "submit", code=1).stderr
    server.slug = "tinny"
    server.entered = ["tinny"]
    assert "did you mean 'tinny'?" in run(folder, "submit", code=1).stderr


def test_missing_credentials_are_an_error_with_a_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "No Kaggle credentials were found. Create a new token" in run(folder, "submit", code=1).stderr


def test_a_missing_slug_is_an_error_with_a_remedy(folder: Path, server: KaggleServer) -> None:
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace('slug = "tiny"', ""))
    assert "[competition] slug in dfens.toml" in run(folder, "submit", code=1).stderr


def test_the_next_run_repairs_a_ledger_that_failed_after_the_upload(
    folder: Path, server: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Ledger.move

    def full(self: Ledger, entry: Entry, transition: str, *args: Any, **changes: Any) -> Any:
        if transition == "confirm":
            raise StoreError("The ledger cannot be used: database or disk is full.")
        return move(self, entry, transition, *args, **changes)

    monkeypatch.setattr(Ledger, "move", full)
    said = run(folder, "submit", code=5).stderr
    assert "as 1000, but the ledger could not record it: The ledger cannot be used: database or disk is full." in said
    assert "It IS on Kaggle: do not send it again." in said
    assert "move it away" not in said
    assert len(server.submissions) == 1
    monkeypatch.setattr(Ledger, "move", move)
    assert "An interrupted run had already submitted it. It is 1000" in run(folder, "submit").stdout
    assert len(server.submissions) == 1


def test_on_a_read_only_disk_nothing_is_submitted_and_the_ledger_can_be_read(
    folder: Path, server: KaggleServer
) -> None:
    run(folder, "submit", "early")

    def use() -> None:
        for arguments, named in (
            ("submit late", "ledger.sqlite cannot be used: "),
            ("submit late --dry-run", "late-"),
            ("submissions sync", "ledger.sqlite cannot be used: "),
            ("submissions rebuild early", "rebuilt"),
            ("download", "work/submissions"),
            ("blend --name again --members m0,m1", "work/ensemble/again cannot be written (Read-only file system)"),
            ("report", "work/reports/report.html cannot be written (Read-only file system)"),
        ):
            said = " ".join(run(folder, *arguments.split(), code=1).stderr.split())
            assert named in said, arguments
            assert "with write access" in said, arguments
            assert "owner" not in said
            assert "Free space" not in said
        assert "early-" in run(folder, "submissions", "list").stdout
        run(folder, "status")

    on_read_only_disk(folder, use)
    assert [item.file_name[:6] for item in server.submissions] == ["early-"]
    run(folder, "submit", "late")
    assert len(server.submissions) == 2


def test_submitting_without_dfens_toml_names_the_missing_setting(folder: Path, server: KaggleServer) -> None:
    (folder / "dfens.toml").unlink()
    arguments = ("--kernel", "a/b", "--kernel-version", "1", "--file", "x.csv")
    assert "[competition] slug in dfens.toml" in run(folder, "submit", *arguments, code=1).stderr
    for wanted in ("submit", "submit late", "submissions sync", "download"):
        assert "[competition] slug in dfens.toml" in run(folder, *wanted.split(), code=1).stderr
    assert "Nothing was sent" in run(folder, "submit", "--dry-run").stdout
    assert server.submissions == []
    (folder / "dfens.toml").write_text('[competition]\nslug = "tiny"\n')
    assert "Submitted x.csv to tiny as 1000" in run(folder, "submit", *arguments).stdout


def test_a_notebook_is_submitted(folder: Path, server: KaggleServer) -> None:
    arguments = ("--kernel", "alice/nb", "--kernel-version", "3", "--file", "submission.csv")
    said = run(folder, "submit", *arguments, "--wait").stdout
    assert "Public score 0.91234" in said
    assert server.submissions[0].description.startswith("alice/nb version 3 [dfens ")
    assert "The same notebook version" in run(folder, "submit", *arguments, code=1).stderr


def test_sync_then_list_show_and_rebuild(folder: Path, server: KaggleServer) -> None:
    server.add("web.csv", "by hand", "0.75")
    run(folder, "submit")
    server.submissions[1].status, server.submissions[1].public_score = "COMPLETE", "0.9"
    said = run(folder, "submissions", "sync").stdout
    assert "2 submissions on Kaggle: 1 new in the ledger, 1 updated." in said
    assert "New: 1000 web.csv (complete, public score 0.75)" in said
    listed = run(folder, "submissions", "list").stdout
    assert "web.csv" in listed
    assert "0.90000" in listed
    assert "late" in run(folder, "submissions", "show", "1001").stdout
    rebuilt = json.loads(run(folder, "submissions", "rebuild", "1001", "--json").stdout)
    assert Path(rebuilt["path"]).read_bytes() == server.submissions[1].data


def test_git_state_of_a_repository_and_of_none(tmp_path: Path) -> None:
    import subprocess

    assert git_state(tmp_path) is None

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "x").write_text("1")
    git("add", "x")
    git("commit", "-m", "x")
    state = git_state(tmp_path)
    assert state is not None
    commit, dirty = state.commit, state.dirty
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "x").write_text("2")
    assert git_state(tmp_path) == GitState(commit, True)


def test_templates_are_checked_with_the_fields_that_are_filled_in(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    assert message_fields(Workspace(tmp_path), "b7", None, None, None, {}).keys() == FIELDS.keys()
