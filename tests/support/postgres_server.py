"""A real PostgreSQL server for the tests of the ledger, in a temporary folder with its socket."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class PostgresMissing(Exception):
    """No PostgreSQL on this machine can be started; the message gives the reason."""


class PostgresServer:
    """A server that starts when created and ends with `close`; it runs as `nobody` if the tests run as root."""

    def __init__(self) -> None:
        programs = _programs()
        self._as_user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        if self._as_user and not shutil.which("runuser"):
            raise PostgresMissing("the tests run as root, which PostgreSQL refuses, and there is no runuser")
        self.folder = Path(tempfile.mkdtemp(prefix="dfens-pg-", dir="/tmp"))  # a socket's path must be short
        self.folder.chmod(0o777)
        self._pg_ctl = programs / "pg_ctl"
        data = self.folder / "data"
        try:
            self._run(programs / "initdb", "-D", data, "-U", "dfens", "-A", "trust", "--no-sync", "-E", "UTF8")
            options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=40"
            self._run(self._pg_ctl, "-D", data, "-w", "-t", "60", "-l", self.folder / "log", "-o", options, "start")
        except subprocess.CalledProcessError as err:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise PostgresMissing(f"PostgreSQL did not start: {err.stderr.strip()[-300:]}") from err

    def _run(self, *command: object) -> str:
        return subprocess.run(
            [*self._as_user, *map(str, command)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        ).stdout

    def new_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        import psycopg

        with psycopg.connect(f"host={self.folder} user=dfens dbname=postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql+psycopg://dfens@/{name}?host={self.folder}"

    def close(self) -> None:
        self._run(self._pg_ctl, "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def _programs() -> Path:
    """Return the folder of initdb and pg_ctl."""
    found = [Path(path).parent for path in [shutil.which("pg_ctl")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return folder.resolve()
    raise PostgresMissing("no PostgreSQL here (apt-get install postgresql)")
