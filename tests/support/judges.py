"""Others' programs that judge the emulator, in an environment of their own. Nothing of ours imports them."""

import json
import os
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]
HOME = Path(".venv", "judges")
PROXY = "http://127.0.0.1:9"  # nothing listens there: a judge talks to the emulator alone


class Judges:
    """The environment, which is made once."""

    def __init__(self):
        command = ["make", "--silent", f"{HOME}/.installed"]
        environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
        subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=600)

    def run(self, program, *arguments, home, **environment):
        """Run a program of the environment, and return its standard output."""
        clean = {"HOME": str(home), "PATH": os.defpath, "DO_NOT_TRACK": "1", "COMFY_NO_UPDATE_CHECK": "1"}
        clean |= {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [PROJECT / HOME / "bin" / program, *arguments],
            env=clean | environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def schemas(self):
        """Return the OpenAPI document of comfy-cli, which has Kling's schemas."""
        (document,) = (PROJECT / HOME).glob("lib/python*/site-packages/comfy_cli/**/openapi.yml")
        return json.loads(document.read_text())  # it is JSON, whatever its name says
