"""`make models`: writes docs/models.md and docs/models-kling.md from the catalogue."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_provider_kling.models import kling, myrouter
from airflow_provider_kling.models.fields import Field, Kind, Model
from airflow_provider_kling.models.myrouter import SOUND_FACTOR
from airflow_provider_kling.models.names import MYROUTER_ON_KLING

DOCS = Path(__file__).resolve().parents[1] / "docs"
INTRO = """# Models

For Dag authors: which model of MyRouter takes which input, within which limits, at which price. The models of
Kling's own API are on [another page](models-kling.md). `make models` generates this page from
`airflow_provider_kling/models/myrouter.py`.

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
KLING_INTRO = f"""# Models of Kling's own API

For Dag authors whose connection leads to Kling's own API: which model takes which input, within which
limits, at which price. The models of MyRouter are on [another page](models.md). `make models` generates this
page from `airflow_provider_kling/models/kling.py`. The facts are from Kling's pages of September 2026. We
have tried none of them with a paid job.

- Give `model` Kling's name, such as `kling-3.0`: the inputs say the operation. With a picture it is
  image-to-video, with `character_orientation` motion-control, else text-to-video. The Omni models and O1 have
  omni-video. Or name both: `image-to-video/kling-3.0`.
- A name that is not listed is passed on unvalidated, with a warning: Kling has newer models.
- *units*: of a video pack, per second, for 720p, 1080p and 4k. A unit costs {kling.UNIT_PRICE} USD by Kling's
  list; `unit_price_usd` in the connection replaces that, and the bill counts. 3.0 Turbo always makes sound.
- Further rules of 3.0 Omni and O1, which are checked too: `video` needs `refer_type`, and excludes `sound`;
  `refer_type='base'` excludes frames and shots; `images` and `element_list` have at most 7 entries together,
  with `video` 4. O1 takes 5 or 10 s for a first frame alone, and no references beside two frames.
- A job of one shot says so to Kling, whose default is several.
- Pictures are sent as bare base64, or as URLs. [pictures.md](pictures.md) lists the limits of pictures.

## Names of MyRouter

These names mean the same video on both gateways. So a Dag moves by its connection alone.

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
    """Return the page of MyRouter's models."""
    head = ["model", "makes", "silent", "with sound", "documented by", "pictures sent as"]
    models = myrouter.MODELS.values()
    rows = [_summary(model) for model in models]
    return "\n".join([INTRO, *_table(head, rows), "", *(line for m in models for line in _section(m))])


def kling_page() -> str:
    """Return the page of the models of Kling's own API."""
    models = kling.MODELS.values()
    same = [
        [f"`{slug}`", f"`{path}`", ", ".join(f"`{name}={value!r}`" for name, value in implied.items())]
        for slug, (path, implied) in MYROUTER_ON_KLING.items()
    ]
    units = [
        [f"`{model.slug}`", variant, *(str(rates.get(r, "")) for r in kling.RESOLUTIONS)]
        for model in models
        for variant, rates in model.units.items()
    ]
    return KLING_INTRO + "\n".join(
        [
            *_table(["MyRouter's name", "means", "with"], same),
            "\n## Units a second\n",
            *_table(["model", "kind of job", *kling.RESOLUTIONS], units),
            "",
            *(line for model in models for line in _section(model)),
        ]
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
    for name, text in (("models.md", page()), ("models-kling.md", kling_page())):
        (DOCS / name).write_text(text)
        sys.stdout.write(f"{DOCS / name} is written.\n")
