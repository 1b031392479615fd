"""Unpack tables in gzip or in a ZIP archive of one file, recognised by their content and not by their names."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

from oof.errors import DfensError, examples

_NO_TABLES, _MAC = ("/", ".DS_Store", "Thumbs.db", "desktop.ini"), "__MACOSX/"  # what systems add to archives
ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
PACKED = (".gz", ".zip")
# zipfile raises RuntimeError for a password, and its subclass NotImplementedError for rare compression methods
UNPACK_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def unpack(data: bytes, path: Path, error: type[DfensError]) -> bytes:
    """Return the bytes of a table, decompressed if they are gzip or a ZIP archive of one file.

    Args:
        data: bytes of the file. path: path of the file, for messages. error: class of the error to raise.

    Raises:
        error: if it is an archive of several files, naming them, or an Excel workbook.
        One of UNPACK_ERRORS: if a compressed file is damaged.
    """
    if data.startswith(GZIP):
        return gzip.decompress(data)
    if not data.startswith(ZIP):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if not name.endswith(_NO_TABLES) and not name.startswith(_MAC)]
        if "xl/workbook.xml" in names:
            raise error(f"{path} is an Excel workbook. Save it as CSV, and name that file.")
        if len(names) != 1:
            raise error(
                f"{path} is a zip archive of {len(names)} files ({examples(names, 3)}); expected one table. Unpack it, "
                f"and name the table."
            )
        return archive.read(names[0])
