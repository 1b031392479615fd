"""The command that follows a blend: submitting it, or reading the scores of its submission."""

from dfens.workspace.members import again_command
from dfens.workspace.paths import Workspace
from ensemble.blend_store import StoredBlend
from oof.errors import DfensError
from submissions.entry import Entry
from submissions.ledger import Ledger
from submissions.table import values_fingerprint


def after_blend(workspace: Workspace, name: str) -> str:
    """Return the command to run after a blend that is current, which depends on whether it was submitted."""
    if not workspace.can_submit():
        return "dfens report"
    try:
        blend = workspace.blends.load(name)
    except DfensError:  # dfens submit names the file that cannot be read
        blend = None
    if blend is not None and blend.test is None:
        return complete_members(workspace, name)
    entries = _local_entries(workspace)
    sent = _submission_of(blend, entries) if blend is not None else None
    if sent is None:
        return f"dfens submit {name} --dry-run"
    if sent.in_doubt or sent.status == "pending":
        return "dfens submissions sync"
    if sent.error:
        return f"dfens submissions show {sent.name}"
    scored = {entry.sha256 or entry.key for entry in entries if entry.public_score is not None}
    more = "dfens submissions select for the two finals" if len(scored) > 1 else "a further [models.NAME] section"
    return f"dfens submissions list, then {more}"


def complete_members(workspace: Workspace, name: str) -> str:
    """Return the commands that give a blend test predictions."""
    again = again_command(workspace, name, workspace.config.blend)
    return f"dfens train, or dfens oof import NAME --oof FILE --test FILE, then {again}"


def _local_entries(workspace: Workspace) -> list[Entry]:
    """Return the entries of the local ledger; none for a ledger on a server, which is not queried."""
    if workspace.config.submissions.ledger or not workspace.ledger_path().exists():
        return []
    return Ledger(workspace.ledger_path(), workspace.root).list(workspace.config.competition.slug)


def _submission_of(blend: StoredBlend, entries: list[Entry]) -> Entry | None:
    """Return the newest submission of the test predictions of a blend; None if they were not submitted."""
    if blend.test is None or blend.test_ids is None:
        return None
    wanted = values_fingerprint(blend.test_ids, blend.test)
    sent = [entry for entry in entries if entry.provenance.get("blend_fingerprint") == wanted]
    return next((entry for entry in reversed(sent) if entry.status != "failed"), None)
