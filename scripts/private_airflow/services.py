"""Starts and stops programs together with all their descendants."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ServiceError(RuntimeError):
    """A program has failed or ended too early; the message names its log file."""


def _exit(signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def exit_on_termination() -> None:
    """Let SIGTERM and SIGHUP raise an exception, as Ctrl-C does, so that this program can clean up."""
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, _exit)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late: list[int] = []
    before = {signum: signal.signal(signum, lambda number, _: late.append(number)) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if late:
        signal.raise_signal(late[0])


class Service:
    """A program in a session of its own, with one log file.

    Its descendants are found by the session, also after the program itself has ended.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._strays: set[psutil.Process] = set()
        exit_on_termination()
        log.parent.mkdir(parents=True, exist_ok=True)
        with uninterrupted(), log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            atexit.register(self.kill)  # in case stop() is not called

    @property
    def pid(self) -> int:
        """Number of the process and of its session."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while the program runs. Nothing is reaped, so the pid stays reserved."""
        if self._process.returncode is not None:
            return self._process.returncode
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def check(self) -> None:
        """Raise if the program has ended."""
        if self.exit_code is not None:
            raise ServiceError(f"{self.name} ended with exit code {self.exit_code}; see {self.log}")

    def wait(self, timeout: float) -> None:
        """Wait until the program ends by itself. Raise if it fails or takes longer."""
        deadline = time.monotonic() + timeout
        while self.exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        code = self.exit_code
        stop([self])
        if code is None:
            raise ServiceError(f"{self.name} took more than {timeout:.0f} s; see {self.log}")
        if code != 0:
            raise ServiceError(f"{self.name} failed with exit code {code}; see {self.log}")

    def terminate(self) -> None:
        """Send SIGTERM to the program and its descendants."""
        self._remember_strays()
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the program and its descendants, and wait for their end."""
        if self._process.returncode is not None:
            return
        with uninterrupted():
            self._remember_strays()
            deadline = time.monotonic() + 10
            while (left := self.members()) and time.monotonic() < deadline:
                for process in left:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                time.sleep(0.02)
            self._process.wait()
            atexit.unregister(self.kill)

    def members(self) -> list[psutil.Process]:
        """Return the running processes of this program's session, and descendants that have left it."""
        if self._process.returncode is not None:
            return []
        pids = [pid for pid in psutil.pids() if _session(pid) == self.pid]
        return [process for process in {*_processes(pids), *self._strays} if _alive(process)]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the program and its descendants, also of those that have ended."""
        self._remember_strays()  # PostgreSQL's processes leave the session
        used = 0.0
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:4])
        return used

    def _remember_strays(self) -> None:
        for process in _processes([self.pid]):
            with suppress(psutil.NoSuchProcess):
                self._strays.update(process.children(recursive=True))


def stop(services: Iterable[Service], grace: float = 10.0) -> None:
    """Stop all programs at the same time: SIGTERM, then SIGKILL after *grace* seconds."""
    services = list(services)
    with uninterrupted():
        for service in services:
            service.terminate()
        deadline = time.monotonic() + grace
        while any(service.members() for service in services) and time.monotonic() < deadline:
            time.sleep(0.1)
        for service in services:
            service.kill()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _processes(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
