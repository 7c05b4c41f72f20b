"""The faults of the S3 of `make chaos EXECUTOR=celery`."""

import random
import socket
from io import BytesIO

import pytest
from chaos.s3 import KINDS, Faulty


def call(fail_rate, kind):
    """Send one PUT, and return its status, whether it was carried out, and whether the connection broke."""

    class Chosen(random.Random):
        def choice(self, _):
            return kind

    done, statuses, broken = [], [], []

    def store(environ, start_response):
        done.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b""]

    class Socket:
        def shutdown(self, how):
            broken.append(how)

    body = {"wsgi.input": BytesIO(b"video"), "CONTENT_LENGTH": "5", "werkzeug.socket": Socket()}
    faulty = Faulty(store, fail_rate, Chosen(1))
    list(
        faulty(
            {"REQUEST_METHOD": "PUT", "PATH_INFO": "/chaos/1.mp4", **body},
            lambda status, _: statuses.append(status[:3]),
        )
    )
    return statuses, done == [b"video"], broken == [socket.SHUT_RDWR]


@pytest.mark.parametrize(
    ("kind", "is_done", "breaks"),
    [(KINDS[0], False, False), (KINDS[1], True, False), (KINDS[2], True, True)],
    ids=KINDS,
)
def test_a_fault_refuses_the_call_or_loses_its_answer(kind, is_done, breaks):
    assert call(1.0, kind) == (["500"], is_done, breaks)


def test_without_a_fault_the_call_is_carried_out_and_answered():
    assert call(0.0, KINDS[0]) == (["200"], True, False)
