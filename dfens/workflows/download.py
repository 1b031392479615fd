"""Download the competition's files with the Kaggle client."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfens.workspace.paths import Workspace
from oof.progress import SILENT, Progress
from submissions.kaggle.client import KaggleClient
from submissions.kaggle.download import DownloadTarget, download_all, download_some


@dataclass(frozen=True)
class RemoteFile:
    """A file of the competition on Kaggle."""

    name: str
    bytes: int


@dataclass(frozen=True)
class RemoteFiles:
    """The files of a competition on Kaggle."""

    competition: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class DownloadedFiles:
    """The files in the data folder after a download.

    fetched: bytes downloaded. written: number of files written. archives: files that are archives themselves and were
    not unpacked.
    changed: files that differ from Kaggle's and were left unchanged. replaced: files replaced with `force`, and the new
    paths of the old ones.
    """

    folder: Path
    files: int
    bytes: int
    fetched: int
    written: int
    archives: tuple[str, ...]
    changed: tuple[str, ...]
    replaced: Mapping[str, Path]


def list_files(workspace: Workspace, progress: Progress = SILENT) -> RemoteFiles:
    """List the files of the competition on Kaggle."""
    config = workspace.config
    with KaggleClient(config.competition.slug, config.submissions, os.environ, progress) as client:
        files = tuple(RemoteFile(name, size) for name, size in client.files().items())
    return RemoteFiles(config.competition.slug, files)


def download(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    keep_archive: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> DownloadedFiles:
    """Download all files of the competition, or those named, into [data] root."""
    config = workspace.config
    protected = (workspace.config_path, workspace.work_dir)  # [data] root may be the project's own folder
    to = DownloadTarget(config.data.root, workspace.download_dir(), protected)
    with KaggleClient(config.competition.slug, config.submissions, os.environ, progress) as client:
        if names:
            found = download_some(client, names, to, force=force, progress=progress)
        else:
            found = download_all(client, to, keep_archive=keep_archive, force=force, progress=progress)
    return DownloadedFiles(
        to.folder,
        found.files,
        found.bytes,
        found.fetched,
        found.written,
        tuple(found.archives),
        found.changed,
        found.replaced,
    )
