"""What a private Airflow shows to the world while it runs, and leaves behind: nothing."""

from __future__ import annotations

import ipaddress
import socket
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
    try:
        connections = process.net_connections("inet")
    except psutil.NoSuchProcess:
        return set()
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.laddr and not c.raddr}


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("AIRFLOW_HOME", "")
    except psutil.Error:
        return ""
