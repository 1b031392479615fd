"""A submission is made at most once with any fault, and the ledger records the outcome."""

import hashlib
import json
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from oof.errors import ConfigError, DfensError, SubmissionError
from oof.progress import SILENT, Task
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.client_child import boot_time
from submissions.marks import mark_of
from submissions.reconcile import reconcile
from submissions.sync import sync
from submissions.upload import Submitted, Submitter, new_entry, sent_name
from tests.support.kaggle_server import SLUG, USER, KaggleServer
from tests.support.rights import without_root_rights
from tests.support.submissions import Desk, make_table
from tests.support.upload_faults import CASES, Case, run_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_fault_has_a_known_outcome(case: Case, kaggle: KaggleServer, tmp_path: Path) -> None:
    first, second = run_case(case, kaggle, tmp_path)
    assert (first.ledger, first.made) == (case.ledger, case.made), first.message
    assert (second.ledger, second.made) == (case.then, case.then_made), second.message
    if case.says:
        assert re.search(case.says, first.message), first.message
    else:
        assert first.message == ""
        assert first.entry is not None
        assert first.entry.ref == 1000
    assert "Traceback" not in first.message + second.message


def test_the_ledger_records_a_submission_before_it_is_sent(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    seen: list[tuple[str, list[str]]] = []
    answer = kaggle.answer

    def watched(method: str, body: dict[str, object]) -> dict[str, object]:
        seen.append((method, desk.states()))
        return answer(method, body)

    kaggle.answer = watched  # type: ignore[method-assign]
    desk.submit()
    states = dict(seen)
    assert states["GetSubmissionLimits"] == []
    assert states["StartSubmissionUpload"] == ["uploading"]
    assert states["CreateSubmission"] == ["creating"]
    assert states["GetSubmission"] == ["pending"]


def test_an_entry_records_what_was_sent(kaggle: KaggleServer, tmp_path: Path) -> None:
    table = make_table(5)
    done = Desk(kaggle, tmp_path).submit(table)
    (sent,) = kaggle.submissions
    entry = done.entry
    assert done.allowance is not None
    assert done.allowance.limits.allowed_now == 5
    assert done.left_today == 4
    assert sent.data == table.data == (tmp_path / entry.path).read_bytes()
    assert sent.file_name == entry.file_name == f"b7-{entry.key[:12]}.csv"
    assert sent.description == entry.message == "b7 oof=0.98765"
    assert (entry.sha256, entry.bytes, entry.rows) == (table.sha256, len(table.data), 5)
    assert (entry.ref, entry.who, entry.kind, entry.status) == (1000, USER, "file", "pending")
    assert entry.submitted is not None


def test_the_same_bytes_are_sent_again_only_on_request(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    desk.submit()
    with pytest.raises(SubmissionError, match=r"The same bytes were submitted on .* UTC as 1000 \(pending\).*--again"):
        desk.submit()
    assert kaggle.count("PUT") == 1
    assert desk.submit(again=True).entry.ref == 1001
    assert desk.submit(make_table(value=0.25)).entry.ref == 1002


def test_links_and_folders_next_to_the_stored_copies_are_ignored(kaggle: KaggleServer, tmp_path: Path) -> None:
    (tmp_path / "sent" / "folder.csv").mkdir(parents=True)
    (tmp_path / "sent" / "link.csv").symlink_to("missing")
    assert Desk(kaggle, tmp_path).submit().entry.ref == 1000


def test_the_partial_copy_of_a_killed_run_is_removed(kaggle: KaggleServer, tmp_path: Path) -> None:
    """Its name has a unique part, so that no later run writes the same file."""
    desk = Desk(kaggle, tmp_path)
    left = tmp_path / "sent" / ".b7-0123456789ab.csv.x1y2_3z4.part"
    left.parent.mkdir()
    left.write_bytes(b"id,tar")
    sent = desk.submit().entry
    assert [path.name for path in left.parent.iterdir()] == [sent.file_name]


def test_zero_allowance_stops_before_the_upload(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.used_today = 5
    with pytest.raises(SubmissionError, match="Nothing was sent"):
        Desk(kaggle, tmp_path).submit()
    assert [method for method, _ in kaggle.calls] == ["GetSubmissionLimits"]
    assert not (tmp_path / "sent").exists()


def test_the_users_own_limit_applies_before_kaggles(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    assert desk.submit(per_day=1).entry.ref == 1000
    with pytest.raises(SubmissionError, match=r"submissions_per_day = 1 are used up \(1 made.*Kaggle allows 4 more"):
        desk.submit(make_table(value=0.25), per_day=1)
    assert kaggle.count("PUT") == 1
    assert desk.submit(make_table(value=0.25), per_day=2).entry.ref == 1001


def test_an_allowance_of_zero_with_none_made_today_is_no_daily_limit(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.allowed_per_day, kaggle.used_total = 0, 12  # the competition is over
    with pytest.raises(SubmissionError, match="it accepts none now.*see the dates at .*Nothing was sent"):
        Desk(kaggle, tmp_path).submit()


def test_an_outdated_count_is_corrected_by_the_ledger(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.allowed_per_day = 1
    desk.submit()
    kaggle.used_today = kaggle.used_total = 0  # Kaggle has not counted it yet
    with pytest.raises(SubmissionError, match="are used up"):
        desk.submit(make_table(value=0.25))
    assert kaggle.count("PUT") == 1


def test_a_truncated_upload_is_reported_though_kaggle_accepted_it(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("PUT", share=0.5)
    table = make_table(200)
    entry = Desk(kaggle, tmp_path).submit(table).entry
    half = len(kaggle.submissions[0].data)
    assert entry.error == f"Kaggle has {half} of the {len(table.data)} bytes that were sent: the upload was truncated."


def test_attempts_in_doubt_are_reconciled_before_anything_else_is_sent(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.fail("CreateSubmission", drop=True, after=True)
    kaggle.fail("ListSubmissions", status=500, times=99)
    with pytest.raises(KaggleError, match="unknown whether"):
        desk.submit()
    with pytest.raises(KaggleError, match="unknown whether"):
        desk.submit(make_table(value=0.25))
    assert kaggle.count("PUT") == 1
    kaggle.faults.clear()
    found = desk.submit()
    assert found.found == "An interrupted run had already submitted it."
    assert found.entry.ref == 1000
    assert desk.submit(make_table(value=0.25)).entry.ref == 1001
    assert desk.states() == ["pending", "pending"]


def test_a_submission_that_shows_up_late_is_waited_for(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path, list_lag_s=10.0)
    kaggle.fail("CreateSubmission", drop=True, after=True)
    kaggle.fail("ListSubmissions", raw=b"{}", times=2)
    assert desk.submit().entry.ref == 1000
    assert kaggle.count("ListSubmissions") >= 3


def test_a_submission_created_after_it_was_given_up_is_found_before_the_next_is_sent(
    kaggle: KaggleServer, tmp_path: Path
) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.fail("CreateSubmission", drop=True)
    with pytest.raises(KaggleError, match="nothing was submitted"):
        desk.submit()
    (entry,) = desk.ledger.list()
    kaggle.add(entry.file_name, entry.message)
    found = desk.submit()
    assert found.found == "A run that seemed to have failed had already submitted it."
    assert (found.entry.key, found.entry.ref) == (entry.key, 1000)
    assert len(kaggle.submissions) == 1
    assert desk.states() == ["pending"]


@pytest.mark.parametrize("is_kernel", [False, True])
def test_a_machine_suspended_before_the_request_submits_nothing(
    is_kernel: bool, kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(kaggle, tmp_path)

    def send() -> Entry:
        with desk.client() as client:
            return (submit_kernel(desk, client, kernel_entry()) if is_kernel else desk.submit()).entry

    with monkeypatch.context() as patch:
        # the time before the entry became `creating`, seen by a client that wakes up a day later
        patch.setattr("submissions.kaggle.client.boot_time", lambda: boot_time() - 86_400)
        with pytest.raises(KaggleError, match=r"suspended.* so Kaggle was not asked to make the submission") as caught:
            send()
    assert (caught.value.reason.certain, caught.value.reason.retry) == (True, False)
    assert desk.states() == ["failed"]
    assert kaggle.count("CreateSubmission") == kaggle.count("CreateCodeSubmission") == 0
    assert send().ref == 1000


def test_another_submission_is_not_mistaken_for_it(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.add("b7.csv", "b7 oof=0.98765", "0.9")
    kaggle.add("b7-0123456789ab.csv", "b7 oof=0.98765", "0.9")
    kaggle.fail("CreateSubmission", drop=True)
    with pytest.raises(KaggleError, match="nothing was submitted"):
        desk.submit()
    assert desk.states() == ["failed"]


def test_reconciling_finds_it_behind_many_newer_submissions(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.fail("CreateSubmission", drop=True, after=True)
    kaggle.fail("ListSubmissions", status=500, times=99)
    with pytest.raises(KaggleError):
        desk.submit()
    kaggle.faults.clear()
    kaggle.page_size_cap = 10
    for number in range(35):
        kaggle.add(f"web{number}.csv")
    with desk.client() as client, desk.ledger.exclusive(SLUG, 5) as lock:
        (entry,) = reconcile(desk.ledger, client, lock)
    assert (entry.ref, entry.status) == (1000, "pending")


def test_a_folder_that_cannot_be_written_submits_nothing(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent").chmod(stat.S_IRUSR | stat.S_IXUSR)
    said = r"sent/b7-\w+\.csv cannot be written \(Permission denied\)"
    with without_root_rights(), pytest.raises(DfensError, match=said):
        desk.submit()
    assert kaggle.count("StartSubmissionUpload") == 0
    assert desk.states() == []


@pytest.mark.parametrize(
    ("name", "sent"), [("b7", "b7"), ("my file (2)", "my-file-2"), ("naïve/../x", "na-ve-..-x"), ("", "submission")]
)
def test_file_names_are_plain_and_unique(name: str, sent: str) -> None:
    assert sent_name(name, "0123456789abcdef" * 2) == f"{sent}-0123456789ab.csv"


class _Notes:
    """Progress that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def task(self, title: str, total: float | None = None, unit: str = "") -> Task:
        return SILENT.task(title, total, unit)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_note_says_how_kaggle_answered(kaggle: KaggleServer, tmp_path: Path) -> None:
    faults: dict[str, dict[str, object]] = {
        "Kaggle answered with status 502": {"status": 502, "shape": "html"},
        "The connection ended before Kaggle's answer": {"drop": True},
        "Kaggle's answer does not show whether the submission was made": {"raw": b"<html>"},
    }
    desk = Desk(kaggle, tmp_path)
    for number, (words, fault) in enumerate(faults.items()):
        kaggle.fail("CreateSubmission", after=True, **fault)
        progress = _Notes()
        entry = new_entry(SLUG, blend="b7", message="b7")
        with desk.client() as client:
            submitter = Submitter(ledger=desk.ledger, client=client, progress=progress)
            submitter.submit_table(make_table(value=number + 1.0), entry, root=tmp_path, folder=tmp_path / "sent")
        assert progress.notes[0] == f"{words}; checking its list of submissions."


# ---- code competitions ------------------------------------------------------


def kernel_entry(**changes: object) -> Entry:
    facts: dict[str, object] = {"kernel": "alice/note-book", "kernel_version": 3, "file_name": "submission.csv"}
    return new_entry(SLUG, **({"message": "from a notebook"} | facts | changes))


def submit_kernel(desk: Desk, client: KaggleClient, entry: Entry) -> Submitted:
    return Submitter(ledger=desk.ledger, client=client).submit_kernel(entry)


def test_a_notebooks_output_is_submitted_once(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    with desk.client() as client:
        entry = submit_kernel(desk, client, kernel_entry()).entry
        with pytest.raises(SubmissionError, match="The same notebook version was submitted"):
            submit_kernel(desk, client, kernel_entry())
        assert submit_kernel(desk, client, kernel_entry(kernel_version=4)).entry.ref == 1001
    body = next(body for method, body in kaggle.calls if method == "CreateCodeSubmission")
    assert body == {
        "competitionName": SLUG,
        "kernelOwner": "alice",
        "kernelSlug": "note-book",
        "kernelVersion": 3,
        "fileName": "submission.csv",
        "submissionDescription": f"from a notebook [dfens {entry.key[:12]} {entry.sha256[:12]}]",
    }
    assert (entry.kind, entry.ref, entry.status) == ("kernel", 1000, "pending")


def test_a_notebook_submission_with_a_lost_response_is_found_by_its_mark(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.add("submission.csv", "from a notebook")
    kaggle.fail("CreateCodeSubmission", drop=True, after=True)
    with desk.client() as client:
        assert submit_kernel(desk, client, kernel_entry()).entry.ref == 1001
        kaggle.fail("CreateCodeSubmission", drop=True)
        with pytest.raises(KaggleError, match="nothing was submitted"):
            submit_kernel(desk, client, kernel_entry(kernel_version=5))
    assert desk.states() == ["pending", "failed"]


@pytest.mark.parametrize("message", ["no pwd:", "secret:", "authorization:", "hello"])
def test_the_mark_of_a_notebook_submission_is_found_beside_secrets(
    message: str, kaggle: KaggleServer, tmp_path: Path
) -> None:
    desk = Desk(kaggle, tmp_path)
    desk.environment["http_proxy"] = desk.environment["http_proxy"].replace("://", "://me:dfens@")  # a known secret
    kaggle.fail("CreateCodeSubmission", drop=True, after=True)
    with desk.client() as client:
        assert submit_kernel(desk, client, kernel_entry(message=message)).entry.ref == 1000
        (listed,) = client.submissions()
    assert listed.description.startswith(message[:3])
    assert desk.states() == ["pending"]


@pytest.mark.parametrize("is_synced", [False, True])
def test_a_notebook_version_is_not_sent_again_with_a_new_ledger(
    is_synced: bool, kaggle: KaggleServer, tmp_path: Path
) -> None:
    first, second = Desk(kaggle, tmp_path), Desk(kaggle, tmp_path, tmp_path / "new.sqlite")
    kaggle.add("submission.csv", "by hand [dfens 0123456789ab]")
    with first.client() as client:
        submit_kernel(first, client, kernel_entry())
    with second.client() as client:
        if is_synced:
            sync(second.ledger, client)
        with pytest.raises(SubmissionError, match="The same notebook version was submitted"):
            submit_kernel(second, client, kernel_entry())
        assert submit_kernel(second, client, kernel_entry(kernel_version=4)).entry.ref == 1002
    assert kaggle.count("CreateCodeSubmission") == 2


@pytest.mark.parametrize("is_new", [False, True])
def test_upper_and_lower_case_are_the_same_notebook(is_new: bool, kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    typed = kernel_entry(kernel="Alice/NB")
    # as earlier versions of dfens hashed it
    former = hashlib.sha256(b"notebook Alice/NB version 3 file submission.csv").hexdigest()
    kaggle.add("submission.csv", f"old {mark_of(typed.key, former)}", "0.5")
    if not is_new:
        desk.ledger.add(replace(typed, kind="kernel", sha256=former, ref=1000, status="complete"))
    with desk.client() as client:
        for kernel in ("Alice/NB", "alice/nb"):
            with pytest.raises(SubmissionError, match="The same notebook version was submitted"):
                submit_kernel(desk, client, kernel_entry(kernel=kernel))
        submit_kernel(desk, client, kernel_entry(kernel="Alice/NB", kernel_version=4))
        with pytest.raises(SubmissionError, match="The same notebook version was submitted"):
            submit_kernel(desk, client, kernel_entry(kernel="alice/nb", kernel_version=4))
    assert kaggle.count("CreateCodeSubmission") == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"message": "maintenance"},
        {"success": False},
        {"submissions": "x"},
        {"submissions": {}},
        {"submissions": [{"fileName": "x.csv"}]},
        {"submissions": ["x"]},
    ],
)
def test_what_is_no_list_of_submissions_is_not_an_empty_one(
    answer: dict[str, object], kaggle: KaggleServer, tmp_path: Path
) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.fail("CreateSubmission", drop=True, after=True)
    kaggle.fail("ListSubmissions", raw=json.dumps(answer).encode(), times=99)
    for _ in range(2):
        with pytest.raises(DfensError, match="unknown whether"):
            desk.submit()
    assert desk.states() == ["creating"]
    assert len(kaggle.submissions) == 1


@pytest.mark.parametrize("answer", [b"{}", b'{"nextPageToken": ""}', b'{"submissions": []}'])
def test_an_empty_list_of_submissions_is_one(answer: bytes, kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("ListSubmissions", raw=answer)
    with Desk(kaggle, tmp_path).client() as client:
        assert client.submissions() == []


def test_a_new_ledger_waits_for_a_kept_copy_that_kaggle_does_not_list_yet(kaggle: KaggleServer, tmp_path: Path) -> None:
    sent = Desk(kaggle, tmp_path).submit().entry
    made = list(kaggle.submissions)
    kaggle.submissions.clear()
    answer, lists = kaggle.answer, 0

    def late(method: str, body: dict[str, object]) -> dict[str, object]:
        nonlocal lists
        lists += method == "ListSubmissions"
        if lists == 2 and not kaggle.submissions:
            kaggle.submissions.extend(made)
        return answer(method, body)

    kaggle.answer = late  # type: ignore[method-assign]
    with pytest.raises(SubmissionError, match=rf"The same bytes were submitted .* as {sent.ref}"):
        Desk(kaggle, tmp_path, tmp_path / "new.sqlite", list_lag_s=30.0).submit()
    assert kaggle.count("CreateSubmission") == 1


def test_a_text_that_kaggle_cut_within_an_emoji_is_recorded(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.add("other.csv", "cut \ud83d and \0", team_name="\ude00")
    kaggle.final_status, kaggle.polls_until_scored = "ERROR", 0
    assert desk.submit().entry.ref == 1001
    with desk.client() as client:
        sync(desk.ledger, client)
    assert [entry.message for entry in desk.ledger.list() if entry.ref == 1000] == ["cut \ufffd and "]


def test_a_kernel_must_be_owner_and_slug(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    with desk.client() as client, pytest.raises(ConfigError, match="expected OWNER/SLUG"):
        submit_kernel(desk, client, kernel_entry(kernel="notebook"))
    assert kaggle.calls == []
