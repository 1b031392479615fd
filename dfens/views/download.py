"""Remote and downloaded files as text."""

from collections.abc import Iterator

from dfens.views.tables import FittedTable, make_table
from dfens.workflows.download import DownloadedFiles, RemoteFiles
from oof.errors import examples


def show_files(found: RemoteFiles) -> Iterator[FittedTable | str]:
    """List files with their sizes."""
    rows = [{"file": file.name, "MB": file.bytes / 1e6} for file in found.files]
    yield make_table(rows, title=f"{found.competition}: {len(rows)} files", decimals=3)


def show_download(found: DownloadedFiles) -> Iterator[str]:
    """Describe what is in the data folder now."""
    line = f"{found.files} file{'s' * (found.files != 1)}, {found.bytes / 1e6:,.1f} MB in {found.folder}."
    yield line if found.written else f"Nothing to do: {line}"
    if found.archives:
        yield f"Some are archives themselves and were not unpacked: {', '.join(found.archives[:5])}"
    if found.changed:
        yield (
            f"{len(found.changed)} files differ from those on Kaggle and were left as they are: "
            f"{examples(list(found.changed))}. --force downloads them again and moves yours aside."
        )
    for name, place in found.replaced.items():
        yield f"Replaced {name}; the old file was moved to {place}."
    yield "Next: dfens check"
