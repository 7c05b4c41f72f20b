"""The tasks that ``kling_video`` makes of a function: it returns the request, the task makes the video."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)
from airflow.sdk import task

from airflow_provider_kling.errors import KlingInputError
from airflow_provider_kling.hooks import airflow_errors
from airflow_provider_kling.models.input_names import INPUTS, PICTURE_INPUTS
from airflow_provider_kling.operators.base import REQUEST_NAME
from airflow_provider_kling.operators.image_to_video import KlingImageToVideoOperator
from airflow_provider_kling.redaction import NO_SECRETS
from airflow_provider_kling.values import as_list
from airflow_provider_kling.xcom_keys import TARGET_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_kling.operators.submit import SubmitAttempt
    from airflow_provider_kling.operators.video_download import VideoDownload

#: What a function may return besides a :class:`VideoRequest`: a dict with some of these keys.
KEYS = (*INPUTS, "model", "extra_body", "target")
#: Airflow's exceptions with which a function ends its task for good.
_ENDS_TASK = (AirflowFailException, AirflowSensorTimeout, AirflowSkipException)


class DecoratedVideoOperator(DecoratedOperator, KlingImageToVideoOperator):
    """Calls the function for one request, then does what ``KlingImageToVideoOperator`` does.

    A retry calls the function again. If it returns another request than the one that an earlier try has
    bought, the task fails with ``KlingSubmitUncertainError``, which names that job. If it skips or fails the
    task with an exception of Airflow, the task fails too and names the job, which is paid for.

    :param python_callable: returns a :class:`VideoRequest`, or a dict of :data:`KEYS`.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *KlingImageToVideoOperator.template_fields,
    )
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **KlingImageToVideoOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.kling_video"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("target", "")
        super().__init__(**kwargs)

    def execute(self, context: Context) -> str:
        """Call the function, then do as ``KlingImageToVideoOperator`` does."""
        return KlingImageToVideoOperator.execute(self, context)

    def _run(self, context: Context, attempt: SubmitAttempt) -> str:
        self._call_function(context)
        return super()._run(context, attempt)

    def _download(self, context: Context) -> VideoDownload:
        """Return the download to the target that the function has named, also in a resumed task."""
        ti = context["ti"]
        found = ti.xcom_pull(task_ids=ti.task_id, key=TARGET_KEY, map_indexes=ti.map_index)
        self.target = (found[0] if isinstance(found, list) and found else found) or self.target
        return super()._download(context)

    def _call_function(self, context: Context) -> None:
        """Call the function, and take what it returns as the operator's arguments."""
        from airflow_provider_kling.models.inputs import plain_value
        from airflow_provider_kling.operators.target_words import fill_target
        from airflow_provider_kling.submission.cost_limits import publish_costs
        from airflow_provider_kling.submission.state import submission_state
        from airflow_provider_kling.submission.submit_once import naming_earlier_job

        state = submission_state(context)
        with naming_earlier_job(state):
            publish_costs(self._reservations(context["ti"]), state, self.log)
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        name = self.python_callable.__name__
        try:
            answer = self.python_callable(*self.op_args, **arguments)
        except Exception as error:
            record = state.last_record()
            if record and not record.finished:
                self.log.warning(
                    "An earlier try has submitted %s, which may be charged: example Dag kling_rescue.",
                    record.kling_task_id or record.unknown_job,
                )
                if isinstance(error, _ENDS_TASK) and not state.is_cleared_since(record):
                    words = NO_SECRETS.shown(f"{type(error).__name__}: {error}", 300)
                    is_skip = isinstance(error, AirflowSkipException)
                    what = "has skipped the task" if is_skip else f"has ended the task ({words})"
                    with naming_earlier_job(state):
                        raise KlingInputError(f"{name}() {what}.") from error
            raise
        with naming_earlier_job(state):
            request = arguments_of(answer, name)
        for name, value in request.items():
            if name in (*INPUTS, "extra_body"):  # the function may pass on what another task has returned
                self._set_input(name, value, from_outside=True)
            else:
                setattr(self, name, plain_value(value))
        if (target := fill_target(self.target, self, context)) != self.target or "target" in request:
            context["ti"].xcom_push(key=TARGET_KEY, value=target)


def _storable(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as XCom may hold it: paths as texts, and no data of pictures."""
    from airflow_provider_kling.models.inputs import plain_value
    from airflow_provider_kling.redaction import redacted
    from airflow_provider_kling.submission.media_inputs import may_be_data

    sent = {name: plain_value(value) for name, value in request.items()}
    for name, value in sent.items():
        for item in as_list(value):
            if isinstance(item, bytes) or (name in PICTURE_INPUTS and may_be_data(str(item))):
                what = f"{name}={redacted(item)}: a list of requests is an XCom; no XCom holds pictures."
                advice = "Name a path or a URL, or return one request from a mapped function."
                raise KlingInputError(what, advice=advice)
    return sent


def arguments_of(answer: Any, function: str) -> dict[str, Any]:
    """Return what a function has returned as the operator's arguments.

    :param answer: what the function has returned.
    :param function: its name, for the message.
    :raises KlingInputError: it is no request.
    """
    from airflow_provider_kling.request import VideoRequest

    if isinstance(answer, VideoRequest):
        return answer.arguments()
    if isinstance(answer, (list, tuple)):
        what = f"{function}() has returned a {type(answer).__name__}, but is not annotated to return one."
        advice = "Write '-> list[VideoRequest]' or '-> list[dict]': then each item becomes a mapped task."
        raise KlingInputError(what, advice=advice)
    if not isinstance(answer, Mapping):
        kind = type(answer).__name__
        raise KlingInputError(f"{function}() has returned a {kind}: must be a VideoRequest or a dict.")
    if unknown := [name for name in answer if name not in KEYS]:
        names = ", ".join(map(repr, unknown))
        raise KlingInputError(f"{function}() has returned {names}: must be of {', '.join(KEYS)}.")
    return dict(answer)


class ManyVideos:
    """A function that returns many requests: a task that calls it, and a mapped task for the videos.

    :param function: returns a list of requests.
    :param arguments: of ``KlingImageToVideoOperator``; ``task_id`` is the function's name if not given.
    """

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self.function, self.arguments = function, dict(arguments)
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make both tasks; return the paths, one for each request."""
        name = self.arguments.get("task_id", self.function.__name__)
        rest = {key: value for key, value in self.arguments.items() if key != "task_id"}

        @functools.wraps(self.function)
        def requests(*args: Any, **kwargs: Any) -> Any:
            answers = self.function(*args, **kwargs)
            with airflow_errors():
                return [_storable(arguments_of(answer, self.function.__name__)) for answer in answers]

        asked: Any = task(task_id=f"{name}_requests", multiple_outputs=False)(requests)(*args, **kwargs)
        return KlingImageToVideoOperator.partial(task_id=name, **rest).expand_kwargs(asked).output

    def override(self, **arguments: Any) -> ManyVideos:
        """Return the same with other arguments of the operator."""
        return ManyVideos(self.function, {**self.arguments, **arguments})


def video_task(python_callable: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Return what ``kling_video`` makes of a function; see there."""
    if _returns_many(python_callable):
        return ManyVideos(python_callable, arguments)
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,
        decorated_operator_class=DecoratedVideoOperator,
        # Airflow reads it of a function that is expanded, before it makes the operator.
        **{"map_index_template": REQUEST_NAME, **arguments},
    )


def _returns_many(function: Callable[..., Any]) -> bool:
    """Return whether the function is annotated to return a list or another sequence."""
    try:
        said = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):  # a name that exists for type checkers alone
        said = inspect.signature(function).return_annotation
    if isinstance(said, str):
        return said.split("[")[0].rsplit(".", maxsplit=1)[-1] in ("list", "List", "tuple", "Sequence")
    kind = typing.get_origin(said) or said
    return isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, str)
