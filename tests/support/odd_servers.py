"""Servers that are not a gateway. They give a fixed answer and record the requests."""

import contextlib
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """A server, with method, path and headers of each request."""

    url: str
    seen: list = field(default_factory=list)

    @property
    def host(self):
        return self.url.partition("://")[2]


def answering(body=b"{}", status=200, **headers):
    """Return a handler's answer with this body."""

    def answer(handler):
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
#: The beginning of a JPEG, before its size.
_CHUNK = b"400\r\n\xff\xd8\xff\xe0\xff\xff" + bytes(0x400 - 6) + b"\r\n"
#: For each part of an answer: the bytes before it, and the bytes that repeat in it.
DRIPPING_PARTS = {
    "status line": (b"HTTP/1.1 200 O", b"K"),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (_HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "body without a length": (_HEAD + b"\r\n", b"x"),
    "chunk size": (_CHUNKED + _CHUNK + b"4;", b"x"),
    "chunk": (_CHUNKED + _CHUNK + b"fffff\r\n", b"x"),
    "small chunks": (_CHUNKED + _CHUNK, b"1\r\nx\r\n"),
    "trailer": (_CHUNKED + _CHUNK + b"0\r\nX: ", b"y"),
    "trailers": (_CHUNKED + _CHUNK + b"0\r\n", b"X: y\r\n"),
}


def dripping_in(part, over, left=None):
    """Return a handler's answer that is very slow in one part. A HEAD is answered at once.

    :param over: set if the client keeps the connection open for 20 seconds.
    :param left: set if the client closes the connection before.
    """
    before, drop = DRIPPING_PARTS[part]

    def answer(handler):
        if handler.command == "HEAD":
            handler.wfile.write(_HEAD + b"\r\n")
            return
        never = threading.Event()
        handler.wfile.write(before)
        try:
            for _ in range(400):
                handler.wfile.write(drop)
                never.wait(0.05)
        except OSError:
            if left:
                left.set()
            raise
        over.set()

    return answer


@contextlib.contextmanager
def serving(answer, certificate=None):
    """Listen on a free port during the block. *answer* is called with the handler of each request."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            server.seen.append((self.command, self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with contextlib.suppress(ConnectionError):
                answer(self)
            self.close_connection = True

        do_GET = do_HEAD = do_POST = do_CONNECT = handle_any  # noqa: N815 - the protocol of http.server

        def log_message(self, *args):
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    listener = Listener(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
    server = Server(f"{'https' if certificate else 'http'}://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
