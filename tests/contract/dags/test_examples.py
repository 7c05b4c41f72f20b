"""The example Dags of the other kinds of video: the emulator accepts their submits."""

import json

import pytest
from airflow_fakes import TI, context_of
from dialects import rows
from example_dags import dags_of

from airflow_provider_kling.emulator.jobs import fingerprint

PIC, CLIP = "https://p.example/a.png", "https://p.example/a.mp4"
SHOTS = [{"prompt": "one", "duration": 3}, {"prompt": "two", "duration": 4}]

#: Dag, what is typed into its form, the model, and the JSON body that has to come out at MyRouter.
KINDS = [
    (
        "kling_text_to_video",
        {"prompt": "a boat"},
        "kling-v3.0-std-t2v",
        {"prompt": "a boat", "duration": 5, "aspect_ratio": "9:16"},
    ),
    (
        "kling_reference_to_video",
        {"prompt": "a 'boat'", "images": [PIC, PIC + "?a='b'"], "duration": 3},
        "kling-o1-ref2v",
        {"prompt": "a 'boat'", "images": [PIC, PIC + "?a='b'"], "duration": 3},
    ),
    (
        "kling_video_editing",
        {"prompt": "snow", "video": CLIP},
        "kling-o1-video-edit",
        {"prompt": "snow", "video": CLIP, "images": [], "keep_original_sound": True},
    ),
    (
        "kling_motion_control",
        {"image": PIC, "video": CLIP},
        "kling-v2.6-pro-motion-control",
        {"image": PIC, "video": CLIP, "character_orientation": "video"},
    ),
    (
        "kling_multi_shot",
        {"image": PIC, "shots": SHOTS},
        "kling-v3.0-pro-i2v",
        {"image": PIC, "multi_prompt": SHOTS, "duration": 7},
    ),
]
PRO = {"resolution": "1080p"}
SNOW, BOAT = {"type": "prompt", "text": "snow"}, {"type": "prompt", "text": "a 'boat'"}
REFERENCES = [
    {"type": "refer_image", "url": url, "id": f"image_{number}"}
    for number, url in enumerate([PIC, PIC + "?a='b'"], 1)
]
#: The model and the body of each at Kling.
AT_KLING = {
    "kling_text_to_video": (
        "text-to-video/kling-3.0",
        {
            "settings": {"resolution": "720p", "duration": 5, "aspect_ratio": "9:16", "multi_shot": False},
            "prompt": "a boat",
        },
    ),
    "kling_reference_to_video": (
        "omni-video/kling-o1",
        {
            "settings": PRO | {"duration": 3, "aspect_ratio": "16:9"},
            "contents": [BOAT, *REFERENCES],
        },
    ),
    "kling_video_editing": (
        "omni-video/kling-o1",
        {
            "settings": PRO | {"audio": "original"},
            "contents": [SNOW, {"type": "base_video", "url": CLIP, "id": "video_1"}],
        },
    ),
    "kling_motion_control": (
        "motion-control/kling-2.6",
        {
            "settings": PRO | {"character_orientation": "video"},
            "contents": [{"type": "image", "url": PIC}, {"type": "video", "url": CLIP}],
        },
    ),
    "kling_multi_shot": (
        "image-to-video/kling-3.0",
        {
            "settings": PRO | {"duration": 7, "multi_shot": True},
            "contents": [
                {"type": "prompt", "text": "shot 1, 3, one; shot 2, 4, two;"},
                {"type": "first_frame", "url": PIC},
            ],
        },
    ),
}


@pytest.fixture(scope="module")
def examples():
    return dags_of("kling_other_kinds")


def test_every_example_of_the_file_is_tried(examples):
    assert set(examples) == {dag_id for dag_id, *_ in KINDS}


@rows(
    "dag_id form model body",
    myrouter=KINDS,
    kling=[(dag_id, form, *AT_KLING[dag_id]) for dag_id, form, *_ in KINDS],
)
def test_an_example_submits_what_its_form_says(gateway, logged, examples, dag_id, form, model, body):
    dag = examples[dag_id]
    params = {name: param.value for name, param in dag.params.items()} | form
    submit = dag.get_task("submit").prepare_for_execution()
    context = context_of(TI()) | {"params": params}
    submit.render_template_fields(context, dag.get_template_env())
    submit.execute(context)
    (job,) = gateway.jobs
    assert job.fingerprint == fingerprint(model, body), json.dumps(body)
    assert "documents shots" not in logged.text()
    assert "not in the catalogue" not in logged.text()


@pytest.mark.parametrize("dag_id", [kind[0] for kind in KINDS])
def test_an_example_submits_then_waits_then_downloads_and_its_form_names_each_field(examples, dag_id):
    dag = examples[dag_id]
    assert dag.get_task("wait").upstream_task_ids == {"submit"}
    assert dag.get_task("download").upstream_task_ids == {"submit", "wait"}
    assert all(param.schema["title"] for _, param in dag.params.items())
