"""`make demo`: a picture becomes a video in a private Airflow; the last line printed is the video's path."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from private_airflow.components import PrivateAirflow, inherited_environment
from private_airflow.rest_api import ApiError
from private_airflow.services import Service, ServiceError, exit_on_termination, stop

from demo import sample_picture
from demo.options import BadOptionError, Options, confirm_spending
from demo.report import Report, RunWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
DAG_ID = "kling_image_to_video"
GATEWAY = ("--port", "0", "--queue-seconds", "2", "--render-seconds", "10")
EMULATOR_LIMIT, LIVE_LIMIT, GRACE = 300.0, 3900.0, 5.0


class RunFailedError(RuntimeError):
    """The Dag run did not bring a video."""


@contextmanager
def emulator(home: Path, report: Report) -> Iterator[dict[str, object]]:
    """Run the emulator; gives the connection to it."""
    began, ready = time.monotonic(), home / "gateway.json"
    command = [sys.executable, "-m", "airflow_provider_kling.emulator", "--ready-file", str(ready), *GATEWAY]
    service = Service("gateway", command, env=inherited_environment(), log=home / "logs" / "gateway.log")
    try:
        while not ready.exists():
            service.check()
            if time.monotonic() > began + 60:
                raise ServiceError(f"the emulator does not get ready; see {service.log}")
            time.sleep(0.05)
        known = json.loads(ready.read_text())
        report.spans["emulator"] = time.monotonic() - began
        report.say("gateway", f"an emulator at {known['url']}, free of charge")
        yield _connection(known["url"], known["api_key"], allow_private_hosts=True)
    finally:
        stop([service], GRACE)


@contextmanager
def live(options: Options, report: Report) -> Iterator[dict[str, object]]:
    """Use the real gateway; gives the connection to it."""
    report.say("gateway", f"{options.live_host}, the real one: {options.price}")
    yield _connection(options.live_host, options.live_key)


def _connection(host: str, key: str, **extra: object) -> dict[str, object]:
    extra |= {"allowed_paths": "/"}  # whoever starts the demo names its files, and may read them all
    return {"conn_type": "kling", "host": host, "password": key, "extra": extra}


@contextmanager
def airflow_for(home: Path, connection: dict[str, object], report: Report) -> Iterator[PrivateAirflow]:
    """Run a private Airflow that knows the gateway."""
    words = {"database": "database made", "healthy": "api-server, scheduler, triggerer, dag-processor up"}
    airflow = PrivateAirflow(
        home,
        PROJECT / "dags",
        env={"AIRFLOW_CONN_KLING_DEFAULT": json.dumps(connection)},
        on_mark=lambda name: report.say("airflow", words[name]) if name in words else None,
    )
    try:
        airflow.up()
        report.spans["Airflow's database"] = airflow.marks["database"]
        report.spans["Airflow's start"] = airflow.marks["healthy"] - airflow.marks["database"]
        yield airflow
    finally:
        airflow.stop(GRACE)


def make_video(airflow: PrivateAirflow, options: Options, image: str, report: Report) -> str:
    """Run the Dag, tell what happens, and give the path of the video."""
    run_id = airflow.trigger(DAG_ID, options.conf(image))
    report.say("run", f"{airflow.url}/dags/{DAG_ID}/runs/{run_id}")
    watch = RunWatch(airflow.api, DAG_ID, run_id, options.price)

    def look() -> bool:
        over = watch.over()
        for who, what in watch.lines():
            report.say(who, what)
        return over

    limit = LIVE_LIMIT if options.live else EMULATOR_LIMIT
    airflow.wait_until("the end of the run", look, limit)
    if failed := watch.failed_task():
        task_id, attempt = failed["task_id"], failed["try_number"]
        why = airflow.api.task_error(DAG_ID, run_id, task_id, attempt) or "no reason is given"
        log = (
            airflow.home / "logs" / f"dag_id={DAG_ID}/run_id={run_id}/task_id={task_id}/attempt={attempt}.log"
        )
        raise RunFailedError(f"the task {task_id} failed: {why}\nIts log: {log}")
    report.spans |= watch.spans()
    return watch.path()


def demo(options: Options, home: Path) -> str:
    """Start everything, make the video, end everything."""
    report = Report()
    image = options.image or str(home / "sample.jpg")
    if not options.image:
        sample_picture.paint(Path(image))
    report.say("picture", options.image or "a painted sunset")
    report.say("prompt", options.prompt)
    gateway = live(options, report) if options.live else emulator(home, report)
    with gateway as connection, airflow_for(home, connection, report) as airflow:
        path = make_video(airflow, options, image, report)
        if options.keep:
            keep(airflow, path, report)
        ending = time.monotonic()
    report.spans["ending it all"] = time.monotonic() - ending
    report.spent()
    return path


def keep(airflow: PrivateAirflow, path: str, report: Report) -> None:
    """Leave Airflow up until Ctrl-C."""
    began = time.monotonic()
    print(f"  Airflow stays up at {airflow.url}, the video is {path}\n  Ctrl-C ends it.", flush=True)
    try:
        while True:
            airflow.check()
            time.sleep(1)
    except KeyboardInterrupt:
        report.spans["kept up for you"] = time.monotonic() - began
        print(flush=True)


def main() -> int:
    """Run the demo; the exit code says how it went."""
    exit_on_termination()
    try:
        options = Options.read(os.environ, PROJECT)
        if options.live:
            confirm_spending(options, os.environ)
    except BadOptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    (PROJECT / ".airflow").mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="demo-", dir=PROJECT / ".airflow"))
    try:
        path = demo(options, home)
    except (ServiceError, ApiError, RunFailedError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        if options.live:
            print(
                "\nA job may have been paid for; it goes on at the gateway, and its task id is in the logs\n"
                f"of {home}. Fetch its video with the Dag kling_rescue.",
                file=sys.stderr,
            )
        else:
            shutil.rmtree(home, ignore_errors=True)
        raise
    shutil.rmtree(home, ignore_errors=True)
    print(path)
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        print("\nstopped, nothing runs on here", file=sys.stderr)
        code = 130
    sys.exit(code)
