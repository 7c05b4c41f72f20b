"""The calls of Airflow's REST API that the scripts and the integration tests need."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

#: Airflow's largest page of a list.
PAGE = 100
FINAL = frozenset({"success", "failed"})


class ApiError(RuntimeError):
    """Airflow refused a call."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class AirflowApi:
    """Airflow's `/api/v2`, called by an administrator."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._token: str | None = None
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Send one request to `/api/v2` and return its JSON answer."""
        if self._token is None:
            self._token = self._send("GET", "/auth/token", None, {})["access_token"]
        parameters = f"?{urllib.parse.urlencode(query, doseq=True)}" if query else ""
        return self._send(
            method, f"/api/v2{path}{parameters}", body, {"Authorization": f"Bearer {self._token}"}
        )

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self._open(request, timeout=30) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode(errors="replace")) from error

    def health(self) -> dict[str, str]:
        """Return `healthy` or `unhealthy` by component; nothing if there is no answer."""
        try:
            answer = self._send("GET", "/api/v2/monitor/health", None, {})
        except (OSError, ApiError, ValueError):
            return {}
        return {name.replace("_", "-"): part["status"] for name, part in answer.items() if part}

    def dag_exists(self, dag_id: str) -> bool:
        """Return whether Airflow has parsed the Dag."""
        return self._or_none("GET", f"/dags/{dag_id}") is not None

    def import_errors(self) -> dict[str, str]:
        """Return the tracebacks of Dag files that could not be parsed, by file."""
        errors = self.call("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def unpause(self, dag_id: str) -> None:
        """Unpause the Dag."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of the Dag and give its run id."""
        self.unpause(dag_id)
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one Dag run."""
        return dict(self.call("GET", _run_path(dag_id, run_id)))

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return `queued`, `running`, `success` or `failed`."""
        return str(self.run(dag_id, run_id)["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, mapped ones included."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances"
        found: list[dict[str, Any]] = []
        while more := self.call("GET", path, limit=PAGE, offset=len(found))["task_instances"]:
            found += more
            if len(more) < PAGE:
                break
        return found

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear tasks of a run, as the button in the UI does; the run starts again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": list(task_ids), "only_failed": False}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return an XCom, or None if there is none."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self._or_none("GET", path, map_index=map_index, stringify="false", deserialize="false")
        return entry and entry["value"]

    def log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> list[dict[str, Any]]:
        """Return the log of one try of a task, a dict for each line: `event`, `level`, `timestamp`, ..."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self.call("GET", path, map_index=map_index, full_content="true")["content"]
        return [{"event": line} if isinstance(line, str) else line for line in content]

    def task_error(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> str:
        """Return the last exception in a try's log, as `Class: message`; empty if there is none."""
        lines = self.log(dag_id, run_id, task_id, try_number, map_index)
        errors = [line["error_detail"][0] for line in lines if line.get("error_detail")]
        # If a trigger has failed, the task's own error only says that.
        causes = [error for error in errors if error["exc_type"] != "TaskDeferralError"] or errors
        return f"{causes[-1]['exc_type']}: {causes[-1]['exc_value']}" if causes else ""

    def _or_none(self, method: str, path: str, **query: Any) -> Any:
        try:
            return self.call(method, path, **query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"
