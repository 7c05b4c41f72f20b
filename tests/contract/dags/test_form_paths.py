"""The paths in the forms of the example Dags: nothing outside of the allowed folders is read or written."""

import pytest
from airflow_fakes import TI, Store, connect, context_of, png
from example_dags import DAGS, dags_of

from airflow_provider_kling.errors import KlingInputError

LINK = "https://p.example/a.png"
#: The tasks that read a picture, and those that store a video, with what else their forms need.
READERS = [
    ("kling_image_to_video", "submit", "image", {}),
    ("kling_one_task", "video", "image", {}),
    ("kling_motion_control", "submit", "image", {"video": "https://p.example/a.mp4"}),
    ("kling_multi_shot", "submit", "image", {}),
    ("kling_reference_to_video", "submit", "images", {}),
    ("kling_video_editing", "submit", "images", {"video": "https://p.example/a.mp4"}),
]
WRITERS = [
    ("kling_image_to_video", "download"),
    ("kling_text_to_video", "download"),
    ("kling_rescue", "download"),
    ("kling_one_task", "video"),
]


@pytest.fixture(scope="module")
def examples():
    names = {file.stem for file in DAGS.glob("*.py")} - {"kling_ask_first"}  # Airflow 3.1 refuses that one
    return {dag_id: dag for name in names for dag_id, dag in dags_of(name).items()}


@pytest.fixture
def allowed(tmp_path, gateway, monkeypatch):
    """Allow one folder, with another one beside it that has a picture and a file in it."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "a.png").write_bytes(png(320, 320))
    (tmp_path / "private" / "notes.txt").write_text("mine")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path / "private")
    (tmp_path / "open" / "notes.txt").write_text("of a colleague")
    connect(gateway, monkeypatch, allow_private_hosts=True, allowed_paths=str(tmp_path / "open"))
    return tmp_path / "open"


def run(dag, task_id, form):
    """Run a task of a Dag with what a form says."""
    params = {name: param.value for name, param in dag.params.items() if param.has_value} | form
    task = dag.get_task(task_id).prepare_for_execution()
    if "kling_task_id" in task.template_fields:
        task.kling_task_id = form["kling_task_id"]
    context = context_of(TI(task_id=task_id), Store()) | {"params": params}
    task.render_template_fields(context, dag.get_template_env())
    return task.execute(context)


def outside(folder):
    """Return the spellings of a folder outside of the allowed one."""
    private = folder.parent / "private"
    return [
        str(private),
        f"{folder}/../private",
        f"{folder}/link",
        f"file://{private}",
        f"{folder}/.\t./private",
    ]


@pytest.mark.parametrize(("dag_id", "task_id", "param", "more"), READERS, ids=[case[0] for case in READERS])
def test_no_form_reads_a_picture_outside_of_the_allowed_folders(
    gateway, examples, allowed, dag_id, task_id, param, more
):
    for folder in outside(allowed):
        picture = f"{folder}/a.png"
        form = {param: [picture] if param == "images" else picture, **more}
        form = {"target": f"{allowed}/", "prompt": "p", **form}
        with pytest.raises(KlingInputError, match=param):
            run(examples[dag_id], task_id, form)
    assert not gateway.jobs


@pytest.mark.parametrize(("dag_id", "task_id"), WRITERS, ids=[case[0] for case in WRITERS])
def test_no_form_stores_a_video_outside_of_the_allowed_folders(gateway, examples, allowed, dag_id, task_id):
    private = allowed.parent / "private"
    before = sorted(private.iterdir())
    for folder in outside(allowed):
        form = {"image": LINK, "prompt": "p", "kling_task_id": "a-job", "target": f"{folder}/new.mp4"}
        with pytest.raises(KlingInputError, match="target"):
            run(examples[dag_id], task_id, form)
    assert sorted(private.iterdir()) == before
    assert not gateway.jobs


@pytest.mark.parametrize(("dag_id", "task_id"), WRITERS, ids=[case[0] for case in WRITERS])
def test_no_form_replaces_a_file_that_is_no_video_of_ours(gateway, examples, allowed, dag_id, task_id):
    form = {"image": LINK, "prompt": "p", "kling_task_id": "a-job", "target": f"{allowed}/notes.txt"}
    with pytest.raises(KlingInputError, match="target"):
        run(examples[dag_id], task_id, form)
    assert (allowed / "notes.txt").read_text() == "of a colleague"
    assert not gateway.jobs


def test_the_catalogue_lists_no_folder_outside_of_the_allowed_ones(examples, allowed):
    plan = examples["kling_nightly_catalogue"].get_task("plan").python_callable
    for name in ("pictures", "videos"):
        for folder in [*outside(allowed), "http://169.254.169.254/latest"]:
            params = {"pictures": str(allowed), "videos": str(allowed), name: folder}
            with pytest.raises(KlingInputError, match=name):
                plan(params=params, ti=TI())
