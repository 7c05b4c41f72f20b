"""A private PostgreSQL: installed if needed, on 127.0.0.1 only, deleted at the end."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import psycopg2

from private_airflow import debian
from private_airflow.components import free_port, inherited_environment
from private_airflow.services import Service, ServiceError, stop

DEBIAN = Path("/usr/lib/postgresql")
#: Tells Debian's package not to create and start its own cluster.
NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/no-main-cluster.conf")
#: The signals of `pg_ctl stop -m`: fast ends the sessions and shuts down, immediate ends like a crash.
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
Mode = Literal["fast", "immediate"]


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs (the newest of Debian's packages), or None."""
    packaged = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda file: int(file.parts[-3].split(".")[0]))
    if packaged:
        return packaged[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found and shutil.which("postgres") else None


def obtainable() -> bool:
    """Return whether there is a PostgreSQL, or one can be installed."""
    return bool(programs() or debian.may_install())


def install(log: Path) -> Path:
    """Install PostgreSQL if it is missing, and return the folder of its programs."""
    if found := programs():
        return found
    if not obtainable():
        raise ServiceError(
            "PostgreSQL (initdb, postgres) is missing. Install it, on Debian and Ubuntu with: "
            "apt-get install postgresql"
        )
    NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        debian.install("postgresql", log)
    finally:
        NO_MAIN_CLUSTER.unlink(missing_ok=True)
    if found := programs():
        return found
    raise ServiceError(f"apt-get has not installed PostgreSQL; see {log}")


class PrivatePostgres:
    """One cluster in a temporary folder. PostgreSQL does not run as root, so root runs it as another user.

    :param log: the server's log file.
    :param settings: further settings of the server.
    """

    def __init__(self, log: Path, **settings: str) -> None:
        self.log, self.port, self._settings = log, free_port(), settings
        self._password = secrets.token_urlsafe(16)
        self._service: Service | None = None
        self._folder: Path | None = None
        self._as_user: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The database's URL for SQLAlchemy."""
        return f"postgresql+psycopg2://airflow:{self._password}@127.0.0.1:{self.port}/postgres"

    def up(self) -> None:
        """Create the cluster and start it."""
        self._programs = install(self.log)
        # Not in the project's folder: the other user may not have access to it.
        self._folder = Path(tempfile.mkdtemp(prefix="kling-postgres-"))
        secret = self._folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if os.geteuid() == 0:
            self._choose_user()
        options = (
            "--username=airflow",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        data, initdb = str(self._folder / "data"), str(self._programs / "initdb")
        debian.run(self.log, *self._as_user, initdb, f"--pwfile={secret}", *options, "-D", data)
        self.start()

    def _choose_user(self) -> None:
        known = {user.pw_name: user for user in pwd.getpwall()}
        user = known.get("postgres") or known["nobody"]
        self._as_user = (
            *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"),
            *("--clear-groups", "--no-new-privs", "--"),
        )
        assert self._folder
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 300,
            **self._settings,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [*self._as_user, str(self._programs / "postgres"), "-D", f"{self._folder}/data", *words]
        self._service = Service(
            "postgres", command, env=inherited_environment(), log=self.log, cwd=self._folder
        )
        deadline = time.monotonic() + 60
        while True:
            self._service.check()
            with suppress(psycopg2.Error):
                self.connect().close()
                return
            if time.monotonic() > deadline:
                raise ServiceError(f"PostgreSQL does not answer after 60 s; see {self.log}")
            time.sleep(0.1)

    def connect(self) -> Any:
        """Open a connection; each statement is its own transaction."""
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user="airflow",
            password=self._password,
            dbname="postgres",
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    def down(self, mode: Mode) -> None:
        """Stop the server; all sessions lose their connection."""
        if self._service is None:
            return
        service, self._service = self._service, None
        os.kill(service.pid, SIGNALS[mode])
        deadline = time.monotonic() + 20
        while service.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        stop([service], grace=0)

    def check(self) -> None:
        """Raise if the server has ended by itself."""
        if self._service:
            self._service.check()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the server."""
        return self._service.cpu_seconds() if self._service else 0.0

    def dump(self) -> str:
        """Return the whole database as text."""
        command = (str(self._programs / "pg_dump"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow")
        env = {**os.environ, "PGPASSWORD": self._password}
        done = subprocess.run([*command, "postgres"], env=env, capture_output=True, check=False)
        if done.returncode:
            raise ServiceError(f"pg_dump failed: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")

    def stop(self) -> None:
        """Stop the server and delete the cluster."""
        self.down("immediate")
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
