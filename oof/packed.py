"""Unpack tables in gzip or in a ZIP archive of one file, recognised by their content and not by their names."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

from oof.errors import DfensError, examples

_NO_TABLES, _MAC = ("/", ".DS_Store", "Thumbs.db", "desktop.ini"), "__MACOSX/"  # what systems add to archives
ZIP, GZIP, _EMPTY_ZIP = b"PK\x03\x04", b"\x1f\x8b", b"PK\x05\x06"
PACKED = (".gz", ".zip")
# zipfile raises RuntimeError for a password, and its subclass NotImplementedError for rare compression methods
UNPACK_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def unpack(data: bytes, path: Path, error: type[DfensError]) -> bytes:
    """Return the bytes of a table, decompressed if they are gzip or a ZIP archive of one file.

    Args:
        data: bytes of the file. path: path of the file, for messages. error: class of the error to raise.

    Raises:
        error: if it is an archive of several files, naming them, or of another archive, or an Excel workbook.
        One of UNPACK_ERRORS: if a compressed file is damaged.
    """
    if data.startswith(GZIP):
        return _table(gzip.decompress(data), path, "its content", error)
    if data.startswith(_EMPTY_ZIP):
        raise error(f"{path} is a zip archive without files. Get it again, or name the table.")
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
        return _table(archive.read(names[0]), path, f"'{names[0]}'", error)


def _table(data: bytes, path: Path, what: str, error: type[DfensError]) -> bytes:
    """Return unpacked bytes; raise the error if they are an archive themselves."""
    if data.startswith((ZIP, GZIP)):
        kind = "a zip archive (or an Excel workbook or NPZ)" if data.startswith(ZIP) else "a gzip file"
        raise error(f"{path} is packed twice: {what} is {kind}. Unpack the outer one, and name the file in it.")
    return data
