"""An S3 that fails in a share of its calls: `python -m chaos.s3 PORT FAIL_RATE SEED`."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

#: What a log line about a fault begins with; a kind and the request follow.
MARK = "S3 fault: "
#: Refused; done, and the answer is an error; done, and the connection breaks instead of an answer.
KINDS = ("refused", "answer is an error", "answer is cut off")
_ERROR = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Faulty:
    """Hands the calls on to another WSGI application, and lets some of them fail."""

    def __init__(self, app: App, fail_rate: float, rng: random.Random) -> None:
        self._app, self._fail_rate, self._random = app, fail_rate, rng

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one call."""
        if self._random.random() >= self._fail_rate:
            return self._app(environ, start_response)
        kind = self._random.choice(KINDS)
        print(f"{MARK}{kind}: {environ['REQUEST_METHOD']} {environ['PATH_INFO']}", flush=True)
        if kind == KINDS[0]:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        else:
            list(self._app(environ, lambda *_: None))
        if kind == KINDS[2]:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [_ERROR]


def main(port: int, fail_rate: float, seed: str) -> None:
    """Serve on 127.0.0.1 until the process is ended."""
    app = Faulty(DomainDispatcherApplication(create_backend_app), fail_rate, random.Random(seed))
    run_simple("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
