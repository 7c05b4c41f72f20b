"""What a private Airflow shows to the world while it runs, and leaves behind: nothing."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from stage import Stage


def test_every_listener_is_on_the_loopback(stage: Stage) -> None:
    found = {}
    for name, service in stage.airflow.services.items():
        for process in service.members():
            for place in _listeners(process):
                found[place] = name
    assert stage.airflow.port in {port for _, port in found}, "the search missed the API server"
    outside = {place: name for place, name in found.items() if not ipaddress.ip_address(place[0]).is_loopback}
    assert outside == {}


def test_nothing_survives_the_end(stage: Stage) -> None:
    members = [p for service in stage.airflow.services.values() for p in service.members()]
    assert len(members) > 3
    ports = {port for process in members for _, port in _listeners(process)}
    stage.airflow.stop()
    assert [process for process in members if process.is_running() and process.status() != "zombie"] == []
    home = str(stage.airflow.home)
    assert [p.pid for p in psutil.process_iter() if home in _environment(p)] == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def _listeners(process: psutil.Process) -> set[tuple[str, int]]:
    """Return where a process listens: by TCP, and by UDP on a port that the system does not give to clients.

    Airflow's client of StatsD sends from a UDP socket that is not connected, so it looks like a server's.
    """
    try:
        connections = process.net_connections("inet")
    except psutil.NoSuchProcess:
        return set()
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return {
        (c.laddr.ip, c.laddr.port)
        for c in connections
        if c.status == psutil.CONN_LISTEN
        or (c.type == socket.SOCK_DGRAM and not c.raddr and not first <= c.laddr.port <= last)
    }


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("AIRFLOW_HOME", "")
    except psutil.Error:
        return ""
