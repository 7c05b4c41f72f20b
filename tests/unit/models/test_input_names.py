"""The operators' inputs are those of the catalogue."""

from airflow_provider_kling.models.catalog import MODELS
from airflow_provider_kling.models.fields import Kind
from airflow_provider_kling.models.input_names import INPUTS, PICTURE_INPUTS, TEXT_INPUTS, VIDEO_INPUT

FIELDS = [field for model in MODELS.values() for field in model.fields]


def named(*kinds):
    return {field.name for field in FIELDS if field.kind in kinds and not field.choices}


def test_the_operators_have_each_input_of_the_catalogue_and_no_other():
    assert sorted(INPUTS) == sorted({field.name for field in FIELDS})


def test_pictures_videos_and_free_texts_are_named_by_their_kind():
    assert set(PICTURE_INPUTS) == named(Kind.PICTURE, Kind.PICTURES)
    assert VIDEO_INPUT in named(Kind.URL)
    assert set(TEXT_INPUTS) == named(Kind.TEXT, Kind.SHOTS)
