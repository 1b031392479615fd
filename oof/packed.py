"""Tables that came packed: gzip, or a ZIP archive of one file, known by their bytes and not by their names."""

import gzip
import io
import zipfile
import zlib
from pathlib import Path

from oof.errors import DfensError, examples

ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
PACKED = (".gz", ".zip")
# zipfile raises RuntimeError for a password, and NotImplementedError, its subclass, for rare packings
UNPACK_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def unpack(data: bytes, path: Path, error: type[DfensError]) -> bytes:
    """Return the bytes of a table: as they are, or out of gzip or a ZIP archive that has one file.

    Args:
        data: the bytes of the file. path: of the file, for messages. error: the class to raise.

    Raises:
        error: for an archive of several files, naming them, and for an Excel workbook.
        One of UNPACK_ERRORS: for a packed file that is damaged.
    """
    if data.startswith(GZIP):
        return gzip.decompress(data)
    if not data.startswith(ZIP):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if "xl/workbook.xml" in names:
            raise error(f"{path} is an Excel workbook. Save it as CSV, and name that file.")
        if len(names) != 1:
            raise error(
                f"{path} is a zip archive of {len(names)} files ({examples(names, 3)}); expected one table. Unpack it, "
                f"and name the table."
            )
        return archive.read(names[0])
