"""The time to check pictures of 10 MB, compared with Pillow.

``PICTURES=1000 ROUNDS=3 JSON=file make bench-images``. Each way runs in an interpreter of its own that
imports only what the way needs. The ways take turns, and each picture is read from the file each time.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module as load
from pathlib import Path
from statistics import median
from typing import Any

from report import percentile, report, spread

PICTURES, ROUNDS = int(os.environ.get("PICTURES", "1000")), int(os.environ.get("ROUNDS", "3"))
#: Files of each format; each is read many times.
FILES = 5
MEGABYTE = 1_000_000
#: The number of pictures for slow ways, which decode or encode.
FEWER = 50


def ours(path: Path) -> None:
    """Read the file and check it, as the submit does."""
    load("airflow_provider_kling.media.pictures").check_picture(path.read_bytes(), "image", path.name)


def encoded(path: Path) -> None:
    """Do all that a submit does with a picture: read, check, hash, and make a data URI."""
    picture = load("airflow_provider_kling.media.pictures").check_picture(
        path.read_bytes(), "image", path.name
    )
    assert picture.sha256
    assert picture.as_base64()


def pillow_after_reading(path: Path) -> None:
    """Read the file and let Pillow read its size. The request needs the data anyway."""
    with load("PIL.Image").open(io.BytesIO(path.read_bytes())) as picture:
        assert picture.size


def pillow(path: Path) -> None:
    """Let Pillow read the size. It reads only the beginning, so it does not check the end."""
    with load("PIL.Image").open(path) as picture:
        assert picture.size


def pillow_verified(path: Path) -> None:
    """Let Pillow verify the file: the check sums of a PNG, nothing more of a JPEG."""
    with load("PIL.Image").open(path) as picture:
        picture.verify()


def pillow_decoded(path: Path) -> None:
    """Let Pillow decode the picture: only this notices that a JPEG is cut off."""
    with load("PIL.Image").open(path) as picture:
        picture.load()


def reading(path: Path) -> None:
    """Only read the file."""
    path.read_bytes()


WAYS: dict[str, Callable[[Path], None]] = {
    "read the file, nothing else": reading,
    "read and check (this provider)": ours,
    "read, check, hash and encode": encoded,
    "read, then Pillow's Image.open": pillow_after_reading,
    "Image.open of the file": pillow,
    "Image.open and verify": pillow_verified,
    "Image.open and load (decodes)": pillow_decoded,
}


def paint(folder: Path) -> None:
    """Write pictures of noise, each just below 10 MB."""
    numpy = load("numpy")
    for form, (width, height), options in (
        ("png", (2200, 1510), {"compress_level": 1}),
        ("jpeg", (3400, 2800), {"quality": 93}),
    ):
        for number in range(FILES):
            noise = numpy.random.default_rng(number).integers(0, 256, (height, width, 3), numpy.uint8)
            load("PIL.Image").fromarray(noise).save(path := folder / f"{number}.{form}", form, **options)
            assert 9 * MEGABYTE < path.stat().st_size < 10 * MEGABYTE, path.stat().st_size
    (folder / "hostile").mkdir()
    whole = {form: (folder / f"0.{form}").read_bytes() for form in ("png", "jpeg")}
    empty = b"\0\0\0\0tEXt\0\0\0\0"
    (folder / "hostile" / "0.png").write_bytes(whole["png"][:33] + empty * (10 * MEGABYTE // len(empty)))
    (folder / "hostile" / "0.jpeg").write_bytes(whole["jpeg"][:-2])


def measured(name: str, folder: str, form: str, count: int) -> dict[str, Any]:
    """Return the seconds of one way for each of many pictures, in this interpreter."""
    way, paths = WAYS[name], sorted(Path(folder).glob(f"*.{form}"))
    seconds = []
    for number in range(count + 1):  # the first call imports modules, so it does not count
        began = time.perf_counter()
        try:
            way(paths[number % len(paths)])
        except (
            ValueError,
            OSError,
            SyntaxError,
            load("airflow_provider_kling.errors").KlingInputError,
        ):  # a hostile one
            pass
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds[1:], "peak": _peak()}


def _peak() -> float:
    """Return the peak memory of this process, without that of its parent."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) * 1024 / MEGABYTE


def apart(name: str, folder: Path, form: str, count: int) -> dict[str, Any]:
    """Measure in a new interpreter."""
    command = [sys.executable, __file__, name, str(folder), form, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def rounds(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield format, way and measurement. The ways take turns."""
    for _ in range(ROUNDS):
        for form in ("png", "jpeg"):
            for name in WAYS:
                yield form, name, apart(name, folder, form, FEWER if "code" in name else PICTURES)


def main() -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix="bench-images-") as home:
        folder = Path(home)
        paint(folder)
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for form, name, result in rounds(folder):
            found.setdefault((form, name), []).append(result)
        rows = [row(form, name, results) for (form, name), results in found.items()]
        worst = {
            f"a hostile {form}": 1000 * median(apart(list(WAYS)[1], folder / "hostile", form, 20)["seconds"])
            for form in ("png", "jpeg")
        }
    slowest = ", ".join(f"{what} {took:.0f} ms" for what, took in worst.items())
    notes = [
        f"{PICTURES} pictures per round ({FEWER} for slow ways), {ROUNDS} rounds: medians and ranges.",
        f"The slowest files to check, 10 MB each: {slowest} (endless chunks, no end marker).",
    ]
    report("images", rows, notes, worst=worst)


def row(form: str, name: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of the table."""
    each = [1000 * median(result["seconds"]) for result in results]
    worst = max(1000 * percentile(result["seconds"], 99) for result in results)
    return {
        "format": form.upper(),
        "way": name,
        "ms each": spread(each, ".3f"),
        "p99 ms": round(worst, 2),
        "peak MB": spread([result["peak"] for result in results], ".0f"),
    }


if __name__ == "__main__":
    if arguments := sys.argv[1:]:
        print(json.dumps(measured(*arguments[:3], int(arguments[3]))))
    else:
        main()
