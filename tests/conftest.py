"""Settings and fixtures of all tests. They use an Airflow of their own, never the user's."""

import datetime as dt
import ipaddress
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings
from packaging.version import Version
from private_stage import (  # noqa: F401 - fixtures of all rings
    airflow,
    database,
    gateway,
    metrics_server,
    span_server,
    stage,
    statements,
)

HOME = tempfile.mkdtemp(prefix="kling-tests-")  # set before anything imports airflow
os.environ["AIRFLOW_HOME"] = HOME
for name in list(os.environ):
    if name.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ["AIRFLOW__OPENLINEAGE__DISABLED"] = "True"


# The machine may be busy, so no example has a time limit. CI tries the same examples each time.
settings.register_profile("tests", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "tests")


#: The order of the tests with a real Airflow: first the others, then the search for secrets, then its end.
ORDER = (
    *("provider", "wheel", "modes", "signals", "examples", "assets", "interruptions", "starts", "functions"),
    *("batch", "hostile", "browser", "secrets", "end"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests with a real Airflow after the others, and skip what this Airflow cannot do."""
    installed = Version(version("apache-airflow-core"))
    for item in items:
        for marker in item.iter_markers("needs_airflow"):
            needed, what = marker.args
            if installed.release < Version(needed).release:
                item.add_marker(pytest.mark.skip(reason=f"{what}: Airflow {needed} has it"))

    def place(item: pytest.Item) -> int | None:
        folder, name = item.path.parent.name, item.path.stem.removeprefix("test_airflow_")
        if item.path.parent.parent != Path(__file__).parent or folder not in ("browser", "integration"):
            return None
        name = "browser" if folder == "browser" else name
        return ORDER.index(name) if name in ORDER else -1

    last = [item for item in items if place(item) is not None]
    for item in last:
        item.add_marker(pytest.mark.timeout(300))  # the first one also waits for Airflow's start
    items[:] = [item for item in items if place(item) is None] + sorted(last, key=place)


def pytest_unconfigure() -> None:
    """Delete the private folder."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Create a self-signed certificate for 127.0.0.1, and return the file with key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    plain = serialization.NoEncryption()
    pkcs8 = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(pkcs8 + made.public_bytes(serialization.Encoding.PEM))
    return str(file)
