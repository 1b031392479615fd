"""What spans the rooms of a workspace: moving aside what depends on replaced folds, and what to do next."""

from pathlib import Path

from oof.files import archive


def archive_dependents(work: Path) -> list[Path]:
    """Move checkpoints and blends that belong to replaced folds into their room's archive; return where they lie."""
    moved = []
    for room in (work / "trainers", work / "ensemble"):
        for path in sorted(room.iterdir()) if room.is_dir() else []:
            if path.is_dir() and path.name != "archive" and not path.name.startswith("."):
                moved.append(archive(path, room / "archive"))
    return moved
