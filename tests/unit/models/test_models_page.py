"""The page of the models has all data of the catalogue."""

import json
import re
from decimal import Decimal
from pathlib import Path

import models_page
import pytest

from airflow_provider_kling.models import kling
from airflow_provider_kling.models.fields import Kind
from airflow_provider_kling.models.myrouter import MODELS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "models.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def table(text):
    """Read the first table of a text: a dictionary for each row."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(head, row, strict=True)) for row in rows]


def value(cell):
    """Read a value as it stands between backticks: JSON, or a bare word."""
    word = cell.strip("`")
    return (
        json.loads(word)
        if re.match(r'["\d]|true|false', word) and ":" not in word.strip('"')
        else word.strip('"')
    )


def test_the_committed_page_is_up_to_date():
    assert models_page.page() == PAGE, "make models"


def test_the_page_of_kling_is_up_to_date_and_has_all_its_models():
    page = (DOCS / "models-kling.md").read_text()
    assert models_page.kling_page() == page, "make models"
    assert re.findall(r"^## (\S+/\S+)$", page, re.MULTILINE) == list(kling.MODELS)


def test_the_page_has_all_models_and_no_other():
    summary = PAGE.partition("\n## ")[0]
    assert (
        [re.match(r"\[(.+?)\]", row["model"])[1] for row in table(summary)] == list(MODELS) == list(SECTIONS)
    )


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_the_summary_says_the_price_and_where_a_model_is_documented(model):
    (row,) = [row for row in table(PAGE.partition("\n## ")[0]) if f"[{model.slug}]" in row["model"]]
    assert row["documented by"] == model.source
    assert row["silent"] == ("unknown" if model.price is None else str(model.price))
    loud = model.price is not None and model.field("sound") is not None
    assert (
        (Decimal(row["with sound"] or "0") == (model.price or 0) * 3 / 2) if loud else not row["with sound"]
    )
    pictures = any(field.kind in (Kind.PICTURE, Kind.PICTURES) for field in model.fields)
    form = {"data_uri": "data URI", "base64": "bare base64", "url": "URL only"}[model.picture_form]
    assert row["pictures sent as"] == (f"{form} ({model.picture_form_confidence.value})" if pictures else "")


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_the_table_of_a_model_has_its_inputs_line_by_line(model):
    rows = table(SECTIONS[model.slug])
    assert [row["input"].strip("`") for row in rows] == [field.name for field in model.fields]
    for row, field in zip(rows, model.fields, strict=True):
        assert row["JSON key"].strip("`") == field.json_key
        assert row["confidence"] == field.confidence.value
        assert row["note"] == field.note
        assert ("sent as a text" in row["type"]) == field.as_text
        assert (value(row["default"]) if row["default"] else None) == field.default
        limits = row["limits"]
        if field.choices:
            assert [value(choice) for choice in limits.split(" or ")] == list(field.choices)
        else:
            ends = [end for end in (field.minimum, field.maximum) if end is not None]
            ends = [0, *ends] if field.kind in (Kind.LIST, Kind.PICTURES) else ends
            assert [float(number) for number in re.findall(r"[\d.]+", limits)] == ends


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_the_rules_of_a_model_are_above_its_table(model):
    rules = SECTIONS[model.slug].split("|")[0]
    names = {*model.required, *model.exactly_one}
    names |= {name for pair in model.excludes for name in pair} | {
        word for need in model.needs for word in need
    }
    assert set(re.findall(r"`(.+?)`", rules)) == names
    assert ("Required: " + ", ".join(f"`{name}`" for name in model.required) in rules) == bool(model.required)
    assert ("Exactly one of" in rules) == bool(model.exactly_one)
    assert rules.count("exclude each other") == len(model.excludes)
    assert rules.count(" needs ") == len(model.needs)
