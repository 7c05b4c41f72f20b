"""``@task.kling_video``: a function returns a request, and its task makes the video."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from airflow.sdk.bases.decorator import Task

P = ParamSpec("P")
R = TypeVar("R")


@overload
def kling_video(python_callable: Callable[P, R]) -> Task[P, R]: ...
@overload
def kling_video(*, target: str = ..., **kwargs: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def kling_video(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Make a task of a function that returns a request; the task returns the video's path.

    ``@task.kling_video`` and ``@kling_video`` are the same; only the latter is known to type checkers. A
    function that is annotated to return a list becomes two tasks: ``<name>_requests`` calls it, and
    ``<name>``, mapped, makes the videos.

    :param python_callable: the function.
    :param kwargs: arguments of ``KlingImageToVideoOperator`` that are the same for all requests.
    """
    if python_callable is None:
        return functools.partial(kling_video, **kwargs)
    from airflow_provider_kling.operators.decorated import video_task

    return video_task(python_callable, kwargs)
