"""What CeleryExecutor adds to `make chaos`: Redis, S3, and workers with their own disk and host name."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from private_airflow import debian
from private_airflow.components import free_port, inherited_environment
from private_airflow.services import Service, ServiceError, stop

from chaos.s3 import MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from private_airflow.components import PrivateAirflow

SCRIPTS = Path(__file__).resolve().parents[1]
WORKERS = ("worker-1", "worker-2")
S3_FAIL_RATE = 0.05
PID_FILE = "worker.pid"
BUCKET, S3_LOGIN = "chaos", "AKIACHAOS"
#: Seconds after which Redis gives a message that no worker has acknowledged to another one. Celery's default
#: is an hour, Airflow's a day.
VISIBILITY_TIMEOUT = 20
#: Runs a command as a worker: $1 is its host name, $2 the folder of its disk, $3 where it sees its disk.
_ENTER = (
    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-ec", 'hostname "$1"; mount --bind "$2" "$3"; shift 3; exec "$@"', "sh"),
)
_TASKS_BY_WORKER = """
    select run_id || map_index, hostname, count(*) from task_instance where map_index >= 0 group by 1, 2
"""
_RECEIVED = re.compile(r"Task execute_workload\[([0-9a-f-]+)\] received")


class Fleet:
    """Redis, S3 and the Celery workers. Kills and restarts of them are up to the caller.

    :param local_pictures: some pictures are on the disk of one worker only; the other one cannot read them.
    """

    def __init__(self, home: Path, logs: Path, seed: int, *, local_pictures: bool) -> None:
        self._home, self._logs, self._local_pictures = home, logs, local_pictures
        self._redis_port, s3_port = free_port(), free_port()
        self.s3_secret = secrets.token_hex(20)
        self._s3_url = f"http://127.0.0.1:{s3_port}"
        self._s3_command = [sys.executable, "-m", "chaos.s3", str(s3_port), str(S3_FAIL_RATE), f"{seed} S3"]
        self._services: dict[str, Service] = {}
        self._disk, self._disks = home / "disk", home / "disks"
        self._given: set[str] = set()

    def up(self, picture: Path) -> None:
        """Start Redis, and S3 with a picture."""
        if os.geteuid() != 0 or not shutil.which("unshare"):
            raise ServiceError("the workers need namespaces of their own: run it as root, with unshare")
        if not _redis_server():
            debian.install("redis-server", self._logs / "redis.log")
        self.start_redis()
        env = inherited_environment() | {"PYTHONPATH": str(SCRIPTS)}
        self._services["s3"] = Service("s3", self._s3_command, env=env, log=self._logs / "s3.log")
        self._wait(int(self._s3_url.rpartition(":")[2]), "s3")
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self._s3_url,
            region_name="us-east-1",
            aws_access_key_id=S3_LOGIN,
            aws_secret_access_key=self.s3_secret,
            config=Config(retries={"total_max_attempts": 20}),
        )
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_object(Bucket=BUCKET, Key=picture.name, Body=picture.read_bytes())
        for name in WORKERS:
            (self._disks / name / "tmp").mkdir(parents=True)
            shutil.copy(picture, self._disks / name / f"{name}.jpg")
        self._disk.mkdir()
        self._given = {url(picture.name), *(str(file) for file in self._disks.glob("*/*.jpg"))}

    def allowed_paths(self) -> str:
        """Return where pictures and videos may be, for the connection."""
        return f"{url('')}, {self._disk}"

    def picture(self, number: int, picture: Path) -> str:
        """Return the picture of a job: in S3 or, one in twelve for each worker, on its disk."""
        worker = number % 12
        if self._local_pictures and worker < len(WORKERS):
            return str(self._disk / f"{WORKERS[worker]}.jpg")
        return url(picture.name)

    def settings(self, database: str) -> dict[str, str]:
        """Return the settings of Airflow's components."""
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
            # How often a worker looks for such messages: every two seconds. The default is every hundred.
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "2",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
            "AWS_MAX_ATTEMPTS": "2",  # botocore's default is 5, and no fault of S3 would reach the provider
        }

    def connection(self) -> dict[str, str]:
        """Return the connection to S3, in the form of Airflow's REST API."""
        extra = f'{{"endpoint_url": "{self._s3_url}", "region_name": "us-east-1"}}'
        account = {"login": S3_LOGIN, "password": self.s3_secret, "extra": extra}
        return {"connection_id": "aws_default", "conn_type": "aws", **account}

    def start_redis(self) -> None:
        """Start Redis; it stores nothing on disk."""
        options = {"bind": "127.0.0.1", "port": str(self._redis_port), "save": "", "appendonly": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        command = [_redis_server() or "redis-server", *words]
        env, log = inherited_environment(), self._logs / "redis.log"
        self._services["redis"] = Service("redis", command, env=env, log=log, cwd=self._home)
        self._wait(self._redis_port, "redis")

    def kill_redis(self) -> None:
        """Kill Redis; its queue is lost."""
        self._services.pop("redis").kill()

    def start_worker(self, name: str, airflow: PrivateAirflow) -> None:
        """Start a worker in namespaces of its own. Its disk keeps its files."""
        own = self._disks / name
        (own / PID_FILE).unlink(missing_ok=True)
        command = [*_ENTER, name, str(own), str(self._disk), sys.executable, "-m", "airflow"]
        command += ["celery", "worker", "--skip-serve-logs", "--pid", f"{self._disk}/{PID_FILE}"]
        airflow.services[name] = Service(
            name,
            command,
            env=airflow.env | {"TMPDIR": str(self._disk / "tmp")},
            log=self._logs / f"{name}.log",
            cwd=airflow.home,
        )

    def check(self) -> None:
        """Raise if Redis or S3 has ended by itself."""
        for service in self._services.values():
            service.check()

    def files(self) -> dict[str, bytes]:
        """Return all files of the bucket and of the workers' disks but the pictures, by URL or path."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        files = {url(key): self._read(key) for key in keys}
        local = [file for file in self._disks.rglob("*") if file.is_file() and file.name != PID_FILE]
        files |= {str(file): file.read_bytes() for file in local}
        return {name: data for name, data in files.items() if name not in self._given}

    def _read(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def unfinished_uploads(self) -> int:
        """Return how many multipart uploads S3 keeps."""
        return len(self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))

    def handed_out_again(self) -> int:
        """Return how many messages the workers have received more than once."""
        received = Counter(
            found[1]
            for name in WORKERS
            for line in _lines(self._logs / f"{name}.log")
            if (found := _RECEIVED.search(line))
        )
        return sum(times > 1 for times in received.values())

    def figures(self, rows: Callable[[str], list[tuple[Any, ...]] | None]) -> dict[str, int]:
        """Return what is counted only here, by what it is.

        :param rows: queries Airflow's database.
        """
        faults = Counter(
            line.removeprefix(MARK).partition(":")[0]
            for line in _lines(self._logs / "s3.log")
            if line.startswith(MARK)
        )
        tasks = rows(_TASKS_BY_WORKER) or []
        videos = Counter(video for video, _, _ in tasks)
        return {
            **{
                f"tasks on {name}": sum(number for _, host, number in tasks if host == name)
                for name in WORKERS
            },
            "videos that both workers had a task of": sum(hosts > 1 for hosts in videos.values()),
            "messages that Redis handed out again": self.handed_out_again(),
            **{f"S3: {kind}": number for kind, number in sorted(faults.items())},
        }

    def stop(self) -> None:
        """Stop Redis and S3."""
        stop(self._services.values(), grace=3)

    def _wait(self, port: int, name: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            self._services[name].check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise ServiceError(f"{name} does not listen after 60 s; see {self._logs}")
            time.sleep(0.1)


def url(key: str) -> str:
    """Return the URL of an object for Airflow."""
    return f"s3://aws_default@{BUCKET}/{key}"


def _redis_server() -> str | None:
    return shutil.which("redis-server") or shutil.which("valkey-server")


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()
