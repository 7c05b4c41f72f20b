"""Speed and memory of a download, compared with curl from the same server.

``SIZES=1,100,2000`` megabytes, ``RUNS=5`` of each in turns. The server is a process of its own that sends a
file from the page cache with sendfile, so its share is small. "Ours" does all that the operators do: it
checks the link, reads the mp4's structure, computes the SHA-256, writes under a temporary name, checks the
size and renames. Both write into the same folder, by default in memory (``FOLDER=/dev/shm``): a shared disk
would hide the difference.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from report import report, spread

SIZES = [int(size) for size in os.environ.get("SIZES", "1,100,2000").split(",")]
RUNS = int(os.environ.get("RUNS", "5"))
MB = 1_000_000
TARGET = 0.8
FOLDER = os.environ.get("FOLDER", "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir())


def video(folder: Path, megabytes: int) -> Path:
    """Create a sparse file of this size with the structure of an mp4: ftyp, moov, mdat."""
    size, file = megabytes * MB, folder / f"{megabytes}.mp4"
    head = b"".join(
        (8 + len(data)).to_bytes(4) + kind + data for kind, data in [(b"ftyp", b"isom"), (b"moov", b"")]
    )
    head += (1).to_bytes(4) + b"mdat" + (size - len(head)).to_bytes(8)
    file.write_bytes(head)
    os.truncate(file, size)
    return file


def serve() -> None:
    """Print the port, then send the files of the folder that is given on the command line."""
    folder = Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=answer, args=(server.accept()[0], folder), daemon=True).start()


def answer(connection: socket.socket, folder: Path) -> None:
    """Answer one request and close the connection."""
    with connection:
        request = b""
        while b"\r\n\r\n" not in request:
            if not (more := connection.recv(65536)):
                return
            request += more
        name = re.match(rb"GET /(\d+\.mp4)", request)
        assert name, request
        with (folder / name[1].decode()).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {size}\r\n"
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
            connection.sendfile(file)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run the server in a process of its own, and yield its URL."""
    with subprocess.Popen([sys.executable, __file__, "serve", folder], stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def ours(url: str, out: Path) -> dict[str, float]:
    """Download with our code in a new interpreter, as a task does. Imports do not count."""
    done = subprocess.run(
        [sys.executable, __file__, "fetch", url, out], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def fetch() -> None:
    """Download in this process, for :func:`ours`."""
    from airflow_provider_kling.storage.allowed_paths import resolve_path  # noqa: PLC0415
    from airflow_provider_kling.storage.target import Target  # noqa: PLC0415
    from airflow_provider_kling.transport.download_stream import open_link  # noqa: PLC0415 - the other processes need none of it
    from airflow_provider_kling.transport.settings import Settings  # noqa: PLC0415

    url, out = sys.argv[2:]
    settings = Settings("none", "none", allow_private_hosts=True, http_extra={"trust_env": False})

    def once(link: str) -> None:
        target = Target(resolve_path(out, "out"), {}, max_bytes=1 << 40)
        with open_link(link, settings) as stream:
            target.store(stream.chunks, stream.length, {"kling_task_id": "benchmark"})

    once(re.sub(r"\d+\.mp4", f"{SIZES[0]}.mp4", url))  # the first call imports modules, so it does not count
    before, began, used = peak(), time.perf_counter(), time.process_time()
    once(url)
    result = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
    result["sha256"] = hashing(Path(out).stat().st_size)
    print(json.dumps(result | {"mb": peak(), "more_mb": peak() - before}))


def hashing(size: int) -> float:
    """Return the seconds for the SHA-256 of this number of bytes."""
    digest, piece = hashlib.sha256(), bytes(MB)
    began = time.perf_counter()
    for _ in range(size // MB):
        digest.update(piece)
    return time.perf_counter() - began


def peak() -> float:
    """Return this process's peak memory, in MB."""
    import resource  # noqa: PLC0415

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def curl(url: str, out: Path) -> dict[str, float]:
    """Download with curl, and return the time that curl measures."""
    process = subprocess.Popen(
        ["curl", "--silent", "--fail", "--noproxy", "*", "-o", out, "-w", "%{time_total}", url],
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    seconds = float(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}


def measure() -> list[dict[str, Any]]:
    """Download each size with both in turns."""
    measured = []
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        for megabytes in SIZES:
            video(folder, megabytes)
        with server(folder) as url:
            for megabytes in SIZES:
                for run in range(RUNS + 1):
                    for who, way in {"ours": ours, "curl": curl}.items():
                        out = folder / f"{who}-out.mp4"
                        result = way(f"{url}/{megabytes}.mp4", out)
                        assert out.stat().st_size == megabytes * MB
                        out.unlink()
                        if run:  # the first one fills the caches
                            measured.append({"who": who, "size": megabytes, **result})
    return measured


def main() -> None:
    """Measure and report."""
    if not shutil.which("curl"):
        sys.exit("This benchmark compares with curl, which is not installed here.")
    measured, rows, ratios, hashed = measure(), [], {}, {}
    for megabytes in SIZES:
        speed = {}
        for who in ("ours", "curl"):
            runs = [run for run in measured if (run["who"], run["size"]) == (who, megabytes)]
            speed[who] = [megabytes / run["seconds"] for run in runs]
            rows.append(
                {
                    "MB": megabytes,
                    "who": who,
                    "MB/s": spread(speed[who], ".0f"),
                    "ms": spread([1000 * run["seconds"] for run in runs], ".1f"),
                    "CPU s": spread([run["cpu"] for run in runs], ".3f"),
                    "peak MB": spread([run["mb"] for run in runs], ".0f"),
                }
            )
        shares = [
            run["sha256"] / run["seconds"]
            for run in measured
            if run.get("size") == megabytes and run["who"] == "ours"
        ]
        hashed[megabytes] = round(100 * statistics.median(shares))
        ratios[megabytes] = round(statistics.median(speed["ours"]) / statistics.median(speed["curl"]), 2)
    speeds = ", ".join(f"{ratio} at {size} MB" for size, ratio in ratios.items())
    verdict = "reached" if min(ratios.values()) >= TARGET else "MISSED"
    parts = ", ".join(f"{share} % at {size} MB" for size, share in hashed.items())
    notes = [
        f"Target: {TARGET} of curl; measured: {speeds}: {verdict}.",
        f"The SHA-256 alone, which curl does not compute, takes {parts} of our time.",
    ]
    report("download", rows, notes, runs=measured, ratios=ratios)


if __name__ == "__main__":
    {"serve": serve, "fetch": fetch}.get(sys.argv[1] if sys.argv[1:] else "", main)()
