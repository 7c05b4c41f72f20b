"""The emulator as a command: `python -m airflow_provider_kling.emulator`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from io import TextIOWrapper
from pathlib import Path

from airflow_provider_kling.emulator.emulator import Emulator
from airflow_provider_kling.emulator.faults import Fault
from airflow_provider_kling.emulator.request_log import Request
from airflow_provider_kling.emulator.settings import Settings

MAX_SHOWN_PROMPT = 50


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    default = Settings()
    parser = argparse.ArgumentParser("python -m airflow_provider_kling.emulator", description=__doc__)
    add = parser.add_argument
    add("--host", default=default.host, help="address to listen on (%(default)s)")
    add("--port", type=int, default=0, help="port of the API; 0 is any free port")
    add("--storage-port", type=int, default=0, help="port of the storage host; 0 is any free port")
    add("--api-key", default=default.api_key, help="the accepted key (%(default)s)")
    add("--queue-seconds", type=float, default=default.queue_seconds, help="time in the queue (%(default)s)")
    add("--render-seconds", type=float, default=default.render_seconds, help="rendering time (%(default)s)")
    add("--no-render", dest="render", action="store_false", help="serve one tiny video to all jobs")
    add("--link-seconds", type=float, default=default.link_seconds, help="lifetime of a link (%(default)s)")
    add("--fail-rate", type=float, default=0.0, help="share of calls with a temporary fault, 0 to 1")
    add("--seed", type=int, help="seed of these faults")
    add("--fault", dest="faults", action="append", default=[], type=_fault, help="see docs/emulator.md")
    add("--model", dest="models", action="append", default=[], help="accept this model too, unchecked")
    add("--slots", type=int, help="Kling: the jobs of one model that run at a time; any number if not said")
    add("--strict", action="store_true", help="Kling: refuse settings that a model does not have")
    add("--cash", action="store_true", help="Kling: bill in USD, not in units")
    add("--webhook-secret", default="", help="Kling: sign callbacks with this secret, whsec_...")
    add("--keep-requests", type=int, default=default.keep_requests, help="keep this number (%(default)s)")
    add("--ready-file", type=Path, help="write the addresses to this JSON file when it listens")
    add("--quiet", action="store_true", help="print no line for each request")
    return parser.parse_args(argv)


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def build(arguments: argparse.Namespace) -> Emulator:
    """Return an emulator with the settings of the command line."""
    settings = {k: v for k, v in vars(arguments).items() if k not in ("ready_file", "quiet")}
    settings |= {"faults": tuple(arguments.faults), "models": tuple(arguments.models)}
    return Emulator(**settings, on_request=None if arguments.quiet else print_request)


def print_request(request: Request) -> None:
    """Print one line about a request."""
    prompt = request.prompt
    short = prompt if len(prompt) <= MAX_SHOWN_PROMPT else prompt[:MAX_SHOWN_PROMPT] + "..."
    parts = [
        time.strftime("%H:%M:%S"),
        f"{request.method:4} {request.path}",
        "cut" if request.cut else str(request.status),
        f"job {request.job}" if request.job else "",
        repr(short) if short and request.method == "POST" else "",
        f"[fault {request.fault}]" if request.fault else "",
    ]
    print("  ".join(part for part in parts if part), flush=True)  # noqa: T201, this is a command


def print_address(gateway: Emulator, ready_file: Path | None) -> None:
    """Print the addresses, and write them to *ready_file* for programs."""
    known = {"url": gateway.url, "storage_url": gateway.storage_url, "api_key": gateway.api_key}
    print(  # noqa: T201
        f"The emulator listens on {gateway.url} (videos: {gateway.storage_url})",
        f"Job: {gateway.queue_seconds:g} s queued, {gateway.render_seconds:g} s rendered. Stop with Ctrl-C.",
        sep="\n",
        flush=True,
    )
    if ready_file is not None:
        draft = ready_file.with_name(ready_file.name + ".part")
        draft.write_text(json.dumps(known | {"pid": os.getpid()}))
        draft.replace(ready_file)


async def run(gateway: Emulator, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await gateway.serve(stopping, partial(print_address, gateway, ready_file))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = read_arguments(argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # prompts come in all languages
    try:
        gateway = build(arguments)
    except RuntimeError as missing:
        raise SystemExit(str(missing)) from None
    try:
        asyncio.run(run(gateway, arguments.ready_file))
    finally:
        gateway.close()
    print("Stopped.", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
