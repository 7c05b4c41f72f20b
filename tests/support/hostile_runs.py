"""One story of a hostile gateway, lived through by each operator, and what must hold whatever happens."""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
import traceback
import unicodedata
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of
from hostile_gateway import HEADER, JOB, KEY, SIGNATURE, VIDEO, Script
from sensor_modes import triggered, until_over

from airflow_provider_kling.errors import KlingError, Money
from airflow_provider_kling.operators import (
    KlingDownloadOperator,
    KlingImageToVideoOperator,
    KlingSubmitOperator,
)
from airflow_provider_kling.sensors import KlingTaskSensor

TIMEOUT = 600.0
DONE = "done"
REQUEST = {"model": "kling-v3.0-pro-t2v", "prompt": "a cat waves"}
#: XCom keys under which a signed link is published on purpose.
LINKS = ("kling_video_url", "kling_video_link")


@dataclass
class Run:
    """One run of an operator, and all that came out of it."""

    way: str
    folder: Path
    job: str
    ti: TI = field(default_factory=TI)
    store: Store = field(default_factory=Store)
    starts: int = 0
    seconds: float = 0.0
    result: object = None
    error: BaseException | None = None
    stored: list = field(default_factory=list)  # what went to the database beside XComs
    logged: str = ""

    @property
    def outcome(self):
        """Return ``done``, or the name of the error's class."""
        return DONE if self.error is None else type(self.error).__name__

    def context(self):
        return context_of(self.ti, self.store)

    def operator(self):
        self.starts += 1
        assert self.starts < 200, "the worker starts again and again"
        with DAG("d", schedule=None):
            operator = WAYS[self.way](self)
        self.stored.append({name: getattr(operator, name) for name in operator.template_fields})
        return operator

    def live(self, clock, logged):
        """Run the operator with its deferrals and reschedules until it ends."""
        began = clock.time()
        try:
            self.result = until_over(self.operator, self.context, clock, self._triggered)
        except Exception as error:  # noqa: BLE001 - judged later
            self.error = error
        self.seconds = clock.time() - began
        self.logged = logged.text()
        return self

    def _triggered(self, pause):
        event = asyncio.run(triggered(pause))
        self.stored += [pause.trigger.serialize(), pause.kwargs, event]
        return event


def _sensor(run, **modes):
    now = time.time() if run.starts == 1 else run.submitted_at
    run.submitted_at = now
    request = {"kling_task_id": run.job, "submitted_at": now}
    run.ti.upstream = [("submit", -1, "kling_request", request)]
    sensor = KlingTaskSensor(task_id="t", kling_task_id=run.job, timeout=TIMEOUT, **modes)
    KlingSubmitOperator(task_id="submit") >> sensor
    return sensor


def _one_task(run, **modes):
    target = f"{run.folder}/"
    return KlingImageToVideoOperator(
        task_id="t", target=target, timeout=TIMEOUT, publish_link=False, **REQUEST, **modes
    )


def _download(run):
    return KlingDownloadOperator(task_id="t", kling_task_id=run.job, target=f"{run.folder}/")


WAYS = {
    "poke": lambda run: _sensor(run, deferrable=False, mode="poke", poke_interval=10.0),
    "reschedule": lambda run: _sensor(run, deferrable=False, mode="reschedule", poke_interval=10.0),
    "deferred": lambda run: _sensor(run, deferrable=True),
    "one task, deferred": lambda run: _one_task(run, deferrable=True),
    "one task, on the worker": lambda run: _one_task(run, deferrable=False),
    "download": _download,
    "submit": lambda run: KlingSubmitOperator(task_id="t", **REQUEST),
}
SENSORS = ("poke", "reschedule", "deferred")
ONE_TASK = ("one task, deferred", "one task, on the worker")
QUERY_WAYS = (*SENSORS, *ONE_TASK, "download")
SUBMIT_WAYS = ("submit", *ONE_TASK)
STORAGE_WAYS = (*ONE_TASK, "download")


SECRETS = (KEY, HEADER[1], SIGNATURE)


def broken_promises(run, gateway, refused_submits=0, secrets=SECRETS):
    """Yield what must never happen and has, whatever the gateway answered."""
    if run.error is not None and not isinstance(run.error, KlingError):
        yield "not one of our errors: " + "".join(traceback.format_exception(run.error))[-1500:]
    bought = gateway.bought
    if bought - refused_submits > 1:
        yield f"{bought} jobs or submits, of which {refused_submits} were refused"
    if run.seconds > TIMEOUT + 30:
        yield f"it took {run.seconds:.0f} s"
    allowed = TIMEOUT / 10 + 3 if run.way == "reschedule" else 6
    if run.starts > allowed:
        yield f"{run.starts} worker starts"
    yield from _wrong_files(run)
    yield from _leaks(run, secrets)
    yield from _unstorable(run)
    for request in gateway.requests:
        if request.kind == "query" and "no-cache" not in request.headers.get("cache-control", ""):
            yield "a query that may be answered by a cache"
            break
    for request in gateway.requests:
        if request.kind == "storage" and {"authorization", HEADER[0].lower()} & request.headers.keys():
            yield "the key went to the storage host"


def _wrong_files(run):
    for path in run.folder.rglob("*"):
        if path.is_file() and path.suffix != ".json" and path.read_bytes() != VIDEO:
            yield f"a wrong file: {path.name}, {path.stat().st_size} bytes"
        if run.error is not None and path.is_file():
            yield f"a file although it failed: {path.name}"
    if run.error is None and run.way in STORAGE_WAYS and not Path(str(run.result)).is_file():
        yield f"no file: {run.result!r}"


def _texts(run):
    """Yield what came out of a run, by where it can be read."""
    yield "log", run.logged
    if run.error is not None:
        words = "".join(traceback.format_exception(run.error))
        yield "error", f"{words} {run.error!r} {run.error.args!r} {vars(run.error)!r}"
    if isinstance(run.result, dict):
        yield "result", json.dumps({**run.result, "videos": [_unsigned(v) for v in run.result["videos"]]})
    else:
        yield "result", json.dumps(run.result)
    published = {key: "" if key in LINKS else value for key, value in run.ti.xcoms.items()}
    yield "XCom", json.dumps(published)
    yield "XCom", json.dumps(run.ti.xcoms).replace(SIGNATURE, "")  # the key is nowhere, not in a link either
    yield "state store", json.dumps(run.store.values)
    yield "database", json.dumps(run.stored, default=str)
    for path in run.folder.rglob("*.json"):
        yield "sidecar", path.read_text()


def _unsigned(video):
    return {name: value for name, value in video.items() if name != "video_url"}


def _leaks(run, secrets):
    for where, text in _texts(run):
        for secret in secrets:
            if found := leak(text, secret):
                yield f"a secret in the {where}: …{found}…"
        bad = next((char for char in text if is_bad(char)), None)
        bad = bad or next((char for char in _decoded(text) if where != "log" and is_bad(char)), None)
        if bad:
            yield f"the character U+{ord(bad):04X} in the {where}"


def is_bad(char):
    """Return whether no log, terminal or database takes a character."""
    return char not in "\n\r\t" and (
        unicodedata.category(char) in ("Cc", "Cs")
        or unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    )


def _decoded(text):
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)


_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\/']))")
_DECODERS = (
    lambda text: _JSON_ESCAPE.sub(lambda f: chr(int(f[1], 16)) if f[1] else f[2], text),
    unquote,
    html.unescape,
)


def leak(text, secret):
    """Return where a secret, or the larger part of it, stands in a text in any spelling; or None."""
    wanted = [secret[:12], secret[-12:], b64encode(secret.encode()).decode()[:16]]
    wanted.append(b64encode(f"Bearer {secret}".encode()).decode()[:28])
    texts, known = [text], {text}
    for _ in range(3):
        texts = [new for old in texts for decode in _DECODERS if (new := decode(old)) not in known]
        known |= set(texts)
    for spelling in known:
        for part in wanted:
            if (at := spelling.find(part)) >= 0:
                return spelling[max(0, at - 120) : at + 60]
    return None


def _unstorable(run):
    for name, value in (("XCom", run.ti.xcoms), ("result", run.result), ("state", run.store.values)):
        try:
            text = json.dumps(value, allow_nan=False)
        except (ValueError, TypeError) as error:
            yield f"{name} that cannot be stored: {error}"
        else:
            if re.search(
                r"\\u0000|\\u[dD][89a-fA-F]", re.sub(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..", "", text)
            ):
                yield f"{name} that PostgreSQL refuses: {text[:200]}"


@dataclass(frozen=True)
class Story:
    """Answers to one kind of request, and what they must come to.

    :param answers: one after another; a tuple within is an answer in several steps.
    :param for_ever: the last answer comes again and again; else honest ones follow.
    :param ends: the outcomes that are right: ``done`` or names of error classes.
    :param money: what the error says about the money; None where it may differ.
    :param download: the outcomes that are right for the download, where they differ.
    :param shows: what the error must show.
    :param hides: what must be published nowhere.
    :param same: whether all operators say the same words.
    :param makes_jobs: Kling has made a job before it sends such an answer to a submit.
    """

    answers: tuple
    for_ever: bool = False
    ends: tuple = (DONE,)
    money: Money | None = None
    download: tuple | None = None
    shows: str = ""
    hides: tuple = ()
    same: bool = True
    job: str = JOB
    makes_jobs: bool = False


def wrong_end(run, story):
    """Yield how a run's end differs from the story's."""
    ends = story.download if story.download and run.way == "download" else story.ends
    if run.outcome not in ends:
        yield f"{run.outcome} instead of {' or '.join(ends)}: {run.error}"
    elif run.error is not None and story.money and run.way != "download" and run.error.money != story.money:
        yield f"money is {run.error.money!s} instead of {story.money!s}"
    if run.error is not None and story.shows not in str(run.error):
        yield f"{story.shows!r} is not in: {run.error}"
    published = {key: value for key, value in run.ti.xcoms.items() if key != "kling_error"}
    for word in story.hides:
        if word in json.dumps([published, run.result]):
            yield f"{word!r} is published"
    if run.outcome == DONE and isinstance(run.result, dict) and run.result["kling_task_id"] != run.job:
        yield f"the result is of job {run.result['kling_task_id']!r}"


def play(story, kind, ways, gateway, clock, logged, tmp_path, *, refused=0):
    """Let each operator live through a story; return what was wrong, by operator."""
    problems, words = [], {}
    for number, way in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        gateway.begin(**{kind: Script(story.answers, story.for_ever, story.makes_jobs)})
        run = Run(way, folder, story.job).live(clock, logged)
        found = [*broken_promises(run, gateway, refused), *wrong_end(run, story)]
        if kind != "submit" and getattr(run.error, "money", None) == Money.UNTOUCHED:
            found.append("it says that no job was started")
        problems += [f"{way}: {text}" for text in found]
        if isinstance(run.error, KlingError):
            words.setdefault((run.outcome, run.error.what, str(run.error.money)), []).append(way)
    if story.same and not story.download and len(words) > 1:
        problems.append(f"the words differ: {words}")
    return problems
