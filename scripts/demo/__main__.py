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

from private_airflow.components import PrivateAirflow
from private_airflow.emulator import start_emulator
from private_airflow.rest_api import ApiError
from private_airflow.services import ServiceError, exit_on_termination, stop

from airflow_provider_kling.transport.settings import GATEWAYS
from demo import sample_picture
from demo.options import BadOptionError, Options, confirm_spending
from demo.report import Report, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
DAG_ID = "kling_image_to_video"
#: The folder for videos that the forms of the example Dags offer.
FORMS = "/tmp/kling"
GALLERY = "/plugin/kling"  # the page "Kling videos" in Airflow's UI
TIMING = ("--queue-seconds", "2", "--render-seconds", "10")
EMULATOR_LIMIT, LIVE_LIMIT, GRACE = 300.0, 3900.0, 5.0


class RunFailedError(RuntimeError):
    """The Dag run has failed."""


@contextmanager
def emulator(options: Options, home: Path, report: Report) -> Iterator[dict[str, object]]:
    """Run the emulator, and yield the connection to it."""
    began = time.monotonic()
    service, started = start_emulator(home, home / "logs" / "emulator.log", *TIMING)
    try:
        report.spans["emulator"] = time.monotonic() - began
        name = GATEWAYS[options.gateway].name
        report.log("gateway", f"an emulator of {name} at {started['url']}, free of charge")
        yield _connection(options, started["url"], started["api_key"], allow_private_hosts=True)
    finally:
        stop([service], GRACE)


@contextmanager
def live(options: Options, report: Report) -> Iterator[dict[str, object]]:
    """Use the real gateway, and yield the connection to it."""
    report.log("gateway", f"{options.live_host}, the real one: {options.price}")
    yield _connection(options, options.live_host, options.live_key)


def _connection(options: Options, host: str, key: str, **extra: object) -> dict[str, object]:
    # The user of the demo names its files, and may read all of them. (Airflow warns in each log of a value
    # that is too short to be masked, such as "/".)
    extra |= {"allowed_paths": "file:///", "gateway": options.gateway}
    return {"conn_type": "kling", "host": host, "password": key, "extra": extra}


@contextmanager
def airflow_for(
    home: Path, connection: dict[str, object], videos: str, report: Report
) -> Iterator[PrivateAirflow]:
    """Run a private Airflow with a connection to the gateway, and a gallery of *videos* and of the forms."""
    words = {"database": "database created", "healthy": "api-server, scheduler, triggerer, dag-processor run"}
    airflow = PrivateAirflow(
        home,
        PROJECT / "dags",
        env={
            "AIRFLOW_CONN_KLING_DEFAULT": json.dumps(connection),
            "AIRFLOW__KLING__GALLERY_FOLDERS": f"{videos}, {FORMS}",
        },
        on_mark=lambda name: report.log("airflow", words[name]) if name in words else None,
    )
    try:
        airflow.up()
        report.spans["Airflow's database"] = airflow.marks["database"]
        report.spans["Airflow's start"] = airflow.marks["healthy"] - airflow.marks["database"]
        yield airflow
    finally:
        airflow.stop(GRACE)


def make_video(airflow: PrivateAirflow, options: Options, image: str, report: Report) -> str:
    """Run the Dag, print what happens, and return the path of the video."""
    run_id = airflow.trigger(DAG_ID, options.conf(image))
    report.log("run", f"{airflow.url}/dags/{DAG_ID}/runs/{run_id}")
    run = RunStatus(airflow.api, DAG_ID, run_id, options.price)

    def has_ended() -> bool:
        ended = run.has_ended()
        for task, news in run.read():
            report.log(task, news)
        return ended

    limit = LIVE_LIMIT if options.live else EMULATOR_LIMIT
    airflow.wait_until("the end of the run", has_ended, limit)
    if failed := run.failed_task():
        task_id, attempt = failed["task_id"], failed["try_number"]
        why = airflow.api.task_error(DAG_ID, run_id, task_id, attempt) or "its log has no error"
        log = (
            airflow.home / "logs" / f"dag_id={DAG_ID}/run_id={run_id}/task_id={task_id}/attempt={attempt}.log"
        )
        raise RunFailedError(f"the task {task_id} failed: {why}\nIts log: {log}")
    report.spans |= run.spans()
    return run.path()


def demo(options: Options, home: Path) -> str:
    """Start everything, make the video, stop everything."""
    report = Report()
    image = options.image or str(home / "sample.jpg")
    if not options.image:
        sample_picture.paint(Path(image))
    report.log("picture", options.image or "a painted sunset")
    report.log("prompt", options.prompt)
    gateway = live(options, report) if options.live else emulator(options, home, report)
    videos = os.path.dirname(options.target)  # noqa: PTH120 - a target with a slash at the end is a folder
    with gateway as connection, airflow_for(home, connection, videos, report) as airflow:
        path = make_video(airflow, options, image, report)
        if options.keep:
            keep(airflow, path, report)
        stopping = time.monotonic()
    report.spans["shutdown"] = time.monotonic() - stopping
    report.print_times()
    return path


def keep(airflow: PrivateAirflow, path: str, report: Report) -> None:
    """Keep Airflow running until Ctrl-C."""
    began = time.monotonic()
    print(
        f"  Airflow runs at {airflow.url}, the video is {path}\n"
        f"  See it in the gallery: {airflow.url}{GALLERY}\n  Ctrl-C stops it.",
        flush=True,
    )
    try:
        while True:
            airflow.check()
            time.sleep(1)
    except KeyboardInterrupt:
        report.spans["until Ctrl-C"] = time.monotonic() - began
        print(flush=True)


def main() -> int:
    """Run the demo; the exit code says whether it has succeeded."""
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
                "\nA job may have been paid for. It goes on at the gateway. Its task id is in the logs in\n"
                f"{home}. Download its video with the Dag kling_rescue.",
                file=sys.stderr,
            )
        else:
            shutil.rmtree(home, ignore_errors=True)
        raise
    shutil.rmtree(home, ignore_errors=True)
    if not options.keep:
        print("  make demo KEEP=1 leaves Airflow's UI open, where the gallery shows the video.")
    print(path)
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        print("\nstopped, all processes have ended", file=sys.stderr)
        code = 130
    sys.exit(code)
