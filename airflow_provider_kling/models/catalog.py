"""All models, by the name that a job has: MyRouter's slugs, and the paths of Kling's own API."""

from __future__ import annotations

from airflow_provider_kling.models import kling, myrouter
from airflow_provider_kling.models.fields import Model

#: The model where neither the task nor the connection names one.
DEFAULT_MODEL = myrouter.DEFAULT_MODEL
MODELS: dict[str, Model] = {**myrouter.MODELS, **kling.MODELS}
