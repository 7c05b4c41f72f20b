"""`make models`: writes docs/models.md from the catalogue."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_provider_kling.models.fields import Field, Kind, Model
from airflow_provider_kling.models.myrouter import MODELS, SOUND_FACTOR

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
INTRO = """# Models

For Dag authors: which model takes which input, within which limits, at which price. `make models` generates
this page from `airflow_provider_kling/models/myrouter.py`.

- *input* is the argument of `KlingSubmitOperator` and `VideoRequest`, the same for all models. *JSON key* is
  the gateway's name for it. An input that a model does not have is refused; the error names the models that
  have it. A model that is not listed is passed on unvalidated, with a warning.
- *default*: the service's documented value. The provider sends only inputs that you set.
- *documented by*: MyRouter's own pages, or only those of its sister hosts Novita AI and PPIO, which have the
  same protocol. MyRouter may not have such a model.
- *confidence*: documented; disputed (the documents differ); seen in clients (of other people); inferred.
- *silent*, *with sound*: US dollars per second by Novita's list. MyRouter's prices may differ; `prices` in
  the connection replaces them.
- *pictures sent as*: the form of a picture's data, if it is not a URL. [pictures.md](pictures.md) lists the
  limits of pictures.
"""
UNKNOWN = "unknown"
PICTURES = {"data_uri": "data URI", "base64": "bare base64", "url": "URL only"}
WORDS = {
    Kind.TEXT: "text",
    Kind.INTEGER: "whole number",
    Kind.NUMBER: "number",
    Kind.BOOLEAN: "true or false",
    Kind.PICTURE: "picture",
    Kind.PICTURES: "list of pictures",
    Kind.URL: "URL",
    Kind.LIST: "list",
    Kind.SHOTS: "list of shots",
}
TASKS = {
    "i2v": "image to video",
    "t2v": "text to video",
    "ref2v": "reference to video",
    "video-edit": "video editing",
    "motion-control": "motion control",
}


def page() -> str:
    """Return the whole page."""
    head = ["model", "makes", "silent", "with sound", "documented by", "pictures sent as"]
    rows = [_summary(model) for model in MODELS.values()]
    return "\n".join(
        [INTRO, *_table(head, rows), "", *(line for m in MODELS.values() for line in _section(m))]
    )


def _summary(model: Model) -> list[str]:
    task = next(words for part, words in TASKS.items() if part in model.slug)
    form = f"{PICTURES[model.picture_form]} ({model.picture_form_confidence.value})"
    takes_pictures = any(field.kind in (Kind.PICTURE, Kind.PICTURES) for field in model.fields)
    silent = UNKNOWN if model.price is None else f"{model.price}"
    loud = f"{model.price * SOUND_FACTOR:.3f}" if model.price and model.field("sound") else ""
    link = f"[{model.slug}](#{model.slug.replace('.', '')})"
    return [link, task, silent, loud, model.source, form if takes_pictures else ""]


def _section(model: Model) -> list[str]:
    head = ["input", "JSON key", "type", "limits", "default", "confidence", "note"]
    rows = [_row(field) for field in model.fields]
    return [f"## {model.slug}", "", f"{_rules(model)}", "", *_table(head, rows), ""]


def _rules(model: Model) -> str:
    rules = [f"Required: {', '.join(f'`{name}`' for name in model.required)}."] if model.required else []
    if model.exactly_one:
        rules.append(f"Exactly one of {' and '.join(f'`{name}`' for name in model.exactly_one)}.")
    rules += [f"`{one}` and `{other}` exclude each other." for one, other in model.excludes]
    rules += [f"`{one}` needs `{other}` to be `{value}`." for one, other, value in model.needs]
    return " ".join(rules)


def _row(field: Field) -> list[str]:
    what = WORDS[field.kind] + (" (sent as a text)" if field.as_text else "")
    default = "" if field.default is None else f"`{json.dumps(field.default)}`"
    return [
        f"`{field.name}`",
        f"`{field.json_key}`",
        what,
        _limits(field),
        default,
        field.confidence.value,
        field.note,
    ]


def _limits(field: Field) -> str:
    low, high = field.minimum, field.maximum
    if field.choices:
        return " or ".join(f"`{choice}`" for choice in field.choices)
    if field.kind is Kind.SHOTS:
        return f"shots of at least {low:g} s" if high is None else f"shots of {low:g} to {high:g} s"
    if field.kind is Kind.TEXT:
        return f"at most {high:g} characters"
    if field.kind in (Kind.LIST, Kind.PICTURES):
        return f"0 to {high:g} entries"
    return "" if low is None else f"{low:g} to {high:g}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} is written.\n")
