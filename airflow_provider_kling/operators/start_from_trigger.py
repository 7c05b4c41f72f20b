"""The start of a sensor in the triggerer: the arguments of its trigger, and the checks that it can work."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator
from airflow.sdk.definitions.xcom_arg import PlainXComArg, XComArg
from airflow.triggers.base import BaseTrigger, StartTriggerArgs

_PULL = re.compile(r"xcom_pull\s*\(")
#: Look-ups that Airflow would make while all triggers of the process stand still.
_LOOKS_UP = re.compile(r"\{[{%][^}]*\b(var|conn)\.")
_INSTEAD = "write kling_task_id=submit.output"


def start_trigger_args(sensor: Any, kling_task_id: Any, backstop: float) -> StartTriggerArgs:
    """Return what Airflow needs to start *sensor* in the triggerer.

    :param sensor: a ``KlingTaskSensor`` with all its arguments.
    :param kling_task_id: as the Dag's author gave it: a text, a template, or a task's output.
    :param backstop: seconds after our own timeout at which Airflow's ends the deferral.
    :raises ValueError: for an argument that would hang, fail or have no effect there, with one that works.
    """
    _check_surroundings(sensor)
    _check_params(sensor)
    _check_template("kling_conn_id", sensor.kling_conn_id)
    if isinstance(kling_task_id, XComArg):
        kling_task_id = _pull(sensor, kling_task_id)
    _check_template("kling_task_id", kling_task_id)
    return StartTriggerArgs(
        trigger_cls="airflow_provider_kling.triggers.KlingTaskTrigger",
        trigger_kwargs={
            "kling_task_id": kling_task_id,
            "kling_conn_id": sensor.kling_conn_id,
            "timeout": sensor.wait_options.timeout,
            "interval": sensor.wait_options.interval,
            "initial_delay": sensor.wait_options.initial_delay,
            "max_poll_interval": sensor.wait_options.max_poll_interval,
        },
        next_method=sensor.execute_complete.__name__,
        timeout=timedelta(seconds=sensor.wait_options.timeout + backstop),
    )


def _check_surroundings(sensor: Any) -> None:
    """Raise for arguments that Airflow silently ignores if no worker starts the task."""
    if not hasattr(BaseTrigger, "render_template_fields"):
        raise ValueError("start_from_trigger=True: needs Airflow 3.3 or newer; leave it out")
    if not sensor.deferrable:
        raise ValueError("start_from_trigger=True: needs deferrable=True")
    left_out = {
        "pool": sensor.pool != BaseOperator.pool,
        "queue": sensor.queue != BaseOperator.queue,
        "pre_execute": sensor._pre_execute_hook is not None,  # noqa: SLF001 - Airflow keeps it there
        "on_execute_callback": sensor.has_on_execute_callback,
    }
    for argument in (name for name, given in left_out.items() if given):
        raise ValueError(
            f"start_from_trigger=True: Airflow ignores {argument} of a task that starts in the triggerer; "
            f"leave {argument} or start_from_trigger out"
        )


def _check_params(sensor: Any) -> None:
    """Raise for a param without a valid default: it would end the whole triggerer."""
    from airflow.sdk.exceptions import ParamValidationError

    for params in [sensor.params, *([sensor.dag.params] if sensor.has_dag() else [])]:
        for name in params:
            try:
                params.get_param(name).resolve()
            except ParamValidationError as error:
                raise ValueError(
                    f"start_from_trigger=True: the param {name!r} has no valid default. That would end the "
                    "triggerer and all its waits; give it one, or leave start_from_trigger out"
                ) from error


def _check_template(argument: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - the same class as for all wrong arguments here
            f"start_from_trigger=True: {argument} must be a text or the output of a submit, not "
            f"{type(value).__name__}; {_INSTEAD}"
        )
    if any("map_indexes" not in call for call in _PULL.split(value)[1:]):
        raise ValueError(
            f"start_from_trigger=True: {argument}={value!r} would wait for ever, because xcom_pull needs "
            f"map_indexes there; {_INSTEAD}, or xcom_pull(task_ids='submit', map_indexes=ti.map_index)"
        )
    if _LOOKS_UP.search(value):
        raise ValueError(
            f"start_from_trigger=True: {argument}={value!r} looks up a variable or a connection. That "
            "would block all other triggers; use params, or leave start_from_trigger out"
        )


def _pull(sensor: Any, output: XComArg) -> str:
    """Return a template for a task's output: Airflow does not resolve the output itself there."""
    if not isinstance(output, PlainXComArg):
        raise ValueError(  # noqa: TRY004
            "start_from_trigger=True: kling_task_id must be the unchanged output of one task, not mapped or "
            f"zipped; {_INSTEAD}"
        )
    task, group = output.operator, output.operator.get_closest_mapped_task_group()
    together = group is not None and group is sensor.get_closest_mapped_task_group()
    if task.is_mapped or (group is not None and not together):
        raise ValueError(
            f"start_from_trigger=True: {task.task_id!r} gives many task ids; put it and the sensor into one "
            "mapped @task_group, and expand that"
        )
    index = "ti.map_index" if together else "-1"
    return f"{{{{ ti.xcom_pull(task_ids={task.task_id!r}, key={output.key!r}, map_indexes={index}) }}}}"
