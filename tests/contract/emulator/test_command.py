"""The emulator as a command, as a fixture and in a thread."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

import airflow_provider_kling.emulator
from airflow_provider_kling.emulator import Emulator
from airflow_provider_kling.emulator.__main__ import build, main, read_arguments

pytest_plugins = ["airflow_provider_kling.emulator.pytest_plugin"]
COMMAND = [sys.executable, "-m", "airflow_provider_kling.emulator"]
HOME = Path(airflow_provider_kling.emulator.__file__).parent
T2V = "/v3/async/kling-v3.0-pro-t2v"


@contextlib.contextmanager
def running(ready, *options):
    """Run the command until the block ends; gives the process once it listens."""
    command = [*COMMAND, "--ready-file", str(ready), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        first = process.stdout.readline(), process.stdout.readline()
        assert "listens on" in first[0], first[0] + process.stdout.read()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_starts_answers_and_ends(tmp_path, number):
    ready = tmp_path / "ready.json"
    options = ("--no-render", "--api-key", "my-key", "--fault", "submit:status=503,match=dog")
    with running(ready, *options) as process:
        Emulator(render=False).wait_until(ready.exists)
        known = json.loads(ready.read_text())
        assert known["pid"] == process.pid
        headers = {"Authorization": f"Bearer {known['api_key']}"}
        for prompt in ("a cat " * 20, "a dog"):
            requests.post(known["url"] + T2V, json={"prompt": prompt}, headers=headers, timeout=10)
        assert len(requests.get(known["url"] + "/_emulator/jobs", timeout=10).json()) == 1
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    cat, dog, last = output.splitlines()
    assert cat.split("  ")[1:4] == [f"POST {T2V}", "200", "job 1"]
    assert len(cat) < 130
    assert "503" in dog
    assert dog.endswith("'a dog'  [fault submit:status=503,match=dog]")
    assert last == "Stopped."
    assert "my-key" not in output


def test_the_command_refuses_an_impossible_fault(capsys):
    with pytest.raises(SystemExit):
        main(["--fault", "submit:explode"])
    assert "unknown word 'explode'" in capsys.readouterr().err


def test_the_options_for_kling_become_settings():
    words = "--no-render --slots 2 --strict --cash --webhook-secret whsec_c2VjcmV0"
    settings = build(read_arguments(words.split())).settings
    assert (settings.slots, settings.strict, settings.cash) == (2, True, True)
    assert settings.webhook_secret == "whsec_c2VjcmV0"


def test_the_command_names_the_missing_extra(monkeypatch):
    monkeypatch.setattr("airflow_provider_kling.emulator.render_queue.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="airflow-provider-kling\\[emulator\\]"):
        main([])


def test_the_default_connection_is_set_to_the_fixture(kling_gateway):
    connection = json.loads(os.environ["AIRFLOW_CONN_KLING_DEFAULT"])
    assert connection == {
        "conn_type": "kling",
        "host": kling_gateway.url,
        "password": kling_gateway.api_key,
        "extra": {"allow_private_hosts": True},
    }
    headers = {"Authorization": f"Bearer {connection['password']}"}
    assert requests.post(connection["host"] + T2V, json={"prompt": "x"}, headers=headers, timeout=10).ok


def test_the_example_in_the_documents_passes(tmp_path):
    manual = (HOME.parents[1] / "docs" / "emulator.md").read_text()
    example = manual.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "test_example.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-W", "error", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout


def test_a_thread_leaves_nothing_behind():
    before = set(threading.enumerate())
    with Emulator(render=False) as gateway, requests.Session() as session:
        url, other = gateway.url, gateway.storage_url
        gateway.add_fault("submit:hang=60,late")
        session.headers["Authorization"] = f"Bearer {gateway.api_key}"
        with pytest.raises(requests.ReadTimeout):
            session.post(url + T2V, json={"prompt": "x"}, timeout=0.1)
    assert set(threading.enumerate()) <= before
    for address in (url, other):
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=1)


def test_a_port_in_use_is_reported_at_the_start():
    with Emulator(render=False) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"), Emulator(render=False, port=port):
            pass


def test_many_can_run_side_by_side():
    with Emulator(render=False) as one, Emulator(render=False) as other:
        assert len({one.url, one.storage_url, other.url, other.storage_url}) == 4


def test_it_needs_neither_airflow_nor_a_codec_until_it_renders():
    heavy = "{'airflow', 'av', 'PIL', 'numpy', 'requests'}"
    script = f"import sys, airflow_provider_kling.emulator.__main__; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
