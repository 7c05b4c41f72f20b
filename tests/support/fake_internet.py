"""A fake internet: host names and public addresses that lead to the tests' servers."""

import socket
import threading
from types import SimpleNamespace

import pytest

PUBLIC = "93.184.216.34"


class Internet:
    """Host names with given addresses, one after another, and public addresses that lead to our servers."""

    def __init__(self, monkeypatch):
        self.names, self.routes, self.connected = {}, {}, []
        ask, internet = socket.getaddrinfo, self

        class Socket(socket.socket):
            claimed = None

            def connect(self, address):
                internet.connected.append(address[0])
                if address[0] in internet.routes:
                    self.claimed = address
                    address = ("127.0.0.1", internet.routes[address[0]])
                super().connect(address)

            def getpeername(self):
                return self.claimed or super().getpeername()

        def getaddrinfo(host, port, *args, **kwargs):
            answers = self.names.get(host, [host])
            address = answers.pop(0) if len(answers) > 1 else answers[0]
            return ask(address, port, *args, **kwargs)

        monkeypatch.setattr(socket, "socket", Socket)
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def serve(self, server, address, *names):
        """Let an address and its names lead to a server."""
        self.routes[address] = int(server.url.rpartition(":")[2])
        self.names |= {name: [address] for name in names}


@pytest.fixture
def internet(monkeypatch):
    return Internet(monkeypatch)


@pytest.fixture
def inside():
    """A server in the private network that must not be reached. It records all connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        got = []

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    got.append(connection.recv(1024))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield SimpleNamespace(port=listener.getsockname()[1], got=got)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
