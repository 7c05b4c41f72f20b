"""The inputs of a request as an operator's arguments: rendered, kept private, made into a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.models.input_names import INPUTS, MEDIA_INPUTS

#: The arguments that may hold the data of a picture or a signed URL.
_MEDIA = (*MEDIA_INPUTS, "extra_body")
#: The limits on cost: one that was set and renders to nothing is refused.
LIMITS = ("max_cost_usd", "max_run_cost_usd")


class RequestOperator(BaseOperator):
    """What an operator needs that asks for a video: all inputs of all models, and the job they make.

    A subclass has an attribute for each of its template fields.
    """

    template_fields: Sequence[str] = (*INPUTS, "model", "extra_body", "kling_conn_id", *LIMITS)
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("images", "multi_prompt", "voice_list", "element_list", "extra_body"), "json"
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: The inputs of which the attributes hold only what may be shown.
        self._hidden: dict[str, Any] = {}
        #: The names of the inputs that the Dag file does not have: a template, a mapping, another task.
        self._from_outside: set[str] = set()

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render, then keep pictures' data and URLs' signatures out of Airflow's *Rendered Templates*.

        Airflow renders mapped and plain tasks through this method, and stores the attributes after it.
        """
        written = {name: getattr(self, name) for name in (*_MEDIA, *LIMITS)}
        super()._do_render_template_fields(parent, *args, **kwargs)
        for name in LIMITS if parent is self else ():
            if getattr(self, name) is None and (
                written[name] is not None or self._is_mapped_to_nothing(name)
            ):
                setattr(self, name, "None")  # a limit that is lost, and not one that was never set
        for name in _MEDIA if parent is self else ():
            rendered = getattr(self, name)
            from_outside = rendered != written[name] or not self._in_dag_file(name, written[name])
            self._set_input(name, rendered, from_outside=from_outside)

    def _set_input(self, name: str, value: Any, *, from_outside: bool) -> None:
        """Set an input. Its attribute gets what Airflow may store and show of it."""
        from airflow_provider_kling.models.inputs import plain_value
        from airflow_provider_kling.redaction import redacted

        value = plain_value(value)
        shown = redacted(value)
        setattr(self, name, shown)
        self._hidden.pop(name, None)
        if shown != value:
            self._hidden[name] = value
        if from_outside:
            self._from_outside.add(name)

    def _in_dag_file(self, name: str, value: Any) -> bool:
        """Return whether an argument stands in the Dag file as it is, rather than coming from a mapping."""
        task = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
        partial = getattr(task, "partial_kwargs", None)
        if partial is None:  # not mapped
            return True
        mapping = task.expand_input.value  # type: ignore[union-attr]  # a mapped operator has it
        if isinstance(mapping, dict):
            listed = mapping.get(name)
        else:
            items = mapping if isinstance(mapping, (list, tuple)) else ()
            listed = [item.get(name) for item in items if isinstance(item, dict)]
        values = [partial.get(name), *(listed if isinstance(listed, (list, tuple)) else ())]
        return any(value is item for item in values)  # else another task's output

    def _is_mapped_to_nothing(self, name: str) -> bool:
        """Return whether a mapping takes an argument from another task, which has given None."""
        task = self.dag.task_dict.get(self.task_id) if self.has_dag() else None  # type: ignore[no-untyped-call]
        mapping = getattr(getattr(task, "expand_input", None), "value", None)
        if mapping is None:
            return False
        if isinstance(mapping, dict):
            return name in mapping and not isinstance(mapping[name], (list, tuple))
        given = getattr(self, "_BaseOperator__init_kwargs", {})  # Airflow has no other record of it
        items = mapping if isinstance(mapping, (list, tuple)) else ()
        listed = any(isinstance(item, dict) and name in item and item[name] is None for item in items)
        return name in given and name not in task.partial_kwargs and not listed  # type: ignore[union-attr]

    def _request_options(self) -> dict[str, Any]:
        """Return the inputs of the request, with what their attributes do not show, for the submission."""
        inputs = {name: getattr(self, name) for name in (*INPUTS, "extra_body")} | self._hidden
        extra_body, outside = inputs.pop("extra_body"), frozenset(self._from_outside)
        return {"inputs": inputs, "extra_body": extra_body, "from_outside": outside}
