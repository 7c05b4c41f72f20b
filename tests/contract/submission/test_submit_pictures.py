"""Pictures through the submit: what Airflow shows of them, who named them, and what a retry makes of it."""

import base64
import json
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Asset, ObjectStoragePath, task
from airflow_fakes import KEY, TI, Signing, Store, connect, context_of, png, submits
from dialects import at_myrouter, dialect, rows

from airflow_provider_kling.errors import KlingError, KlingInputError
from airflow_provider_kling.operators import KlingSubmitOperator

CAT, DOG = png(noise=8192), png(400, 400)
SIGNED = "https://p.example/cat.png?X-Amz-Signature=secret"
DATA = f"data:image/png;base64,{base64.b64encode(CAT).decode()}"
PRO, REF, TEXT = "kling-v3.0-pro-i2v", "kling-o1-ref2v", {"prompt": "a cat"}


class Pulling(TI):
    """A task instance for which there is one XCom."""

    def __init__(self, value=None, **options):
        super().__init__(**options)
        self.value = value

    def xcom_pull(self, task_ids=None, **_):
        return self.value if task_ids in ("make", ["make"]) else None


def run(operator, ti=None, store=None):
    """Render and execute an operator, mapped or not, as a worker does; return what was executed."""
    dag = operator.dag if operator.has_dag() else None
    context = context_of(ti, store) | {"dag": dag, "dag_run": SimpleNamespace(conf={}), "task": operator}
    context |= {"params": {"image": ti.value} if isinstance(ti, Pulling) else {}}
    operator.render_template_fields(context)
    executed = context["task"]
    executed.execute(context)
    return executed


def submit(**arguments):
    return KlingSubmitOperator(task_id="submit", **{"model": PRO, **TEXT, **arguments})


def mapped(make_it):
    """Return a submit that was mapped in a Dag, where another task's output is ``output``."""
    with DAG("d", schedule=None) as dag:

        @task
        def make():
            return None

        make_it(KlingSubmitOperator.partial, make())
    return dag.get_task("submit")


@pytest.fixture
def cat(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(CAT)
    return str(path)


@pytest.fixture
def storage():
    return Signing()


@pytest.fixture
def stored(attached, storage):
    folder = attached(storage)
    ObjectStoragePath(f"{folder}cat.png").write_bytes(CAT)
    return f"{folder}cat.png"


def shown(operator):
    return json.dumps({name: getattr(operator, name) for name in operator.template_fields})


FORMS = {
    "bytes": ({"image": CAT}, f"<{len(CAT)} bytes, sha256 "),
    "bytes in a list": ({"images": [CAT], "model": REF}, f"<{len(CAT)} bytes, sha256 "),
    "base64": ({"image": DATA.partition(",")[2]}, " characters, sha256 "),
    "a URL with a user": ({"image": SIGNED.replace("//", "//me:secret@")}, "https://p.example/cat.png"),
    "data URI": ({"image": DATA}, f"<{len(DATA)} characters, sha256 "),
    "a signed URL": ({"image": SIGNED}, "https://p.example/cat.png"),
    "a list as JSON": ({"images": json.dumps([SIGNED, DATA]), "model": REF}, "https://p.example/cat.png"),
    "an asset": ({"image": Asset(name="cat", uri=SIGNED)}, "https://p.example/cat.png"),
    "a signed video": ({"video": SIGNED, "model": REF}, "https://p.example/cat.png"),
    "extra": ({"image": SIGNED, "extra_body": json.dumps({"style": [DATA]})}, "sha256"),
}


@rows(
    "fault sent fails",
    [(None, 1, False), ("error=ILLEGAL_PROMPT", 1, True)],
    myrouter=[("cut", 1, True), ("html=502", 1, True)],
    kling=[("cut", 2, False), ("html=502", 2, False)],
)
@pytest.mark.parametrize(("arguments", "source"), FORMS.values(), ids=FORMS)
def test_no_key_no_data_and_no_signature_is_shown_logged_or_kept(
    gateway, logged, arguments, source, fault, sent, fails
):
    ti, store, operator, told = TI(), Store(), submit(**arguments), ""
    if fault:
        gateway.add_fault(f"submit:{fault}")
    try:
        run(operator, ti, store)
    except KlingError as error:
        told = f"{error!r} {error.__dict__} {error.__cause__}"
    assert bool(told) is fails
    assert submits(gateway) == sent
    assert source in shown(operator)
    everything = shown(operator) + json.dumps([ti.xcoms, store.values]) + logged.text() + told
    for secret in (KEY, "secret", "iVBORw0KGgo", "\\x89PNG", DATA[300:340]):
        assert secret not in everything


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ("file", "image: cat.png, PNG 320x320, "),
        (DATA, "image: data, PNG 320x320, "),
        (SIGNED, "image: https://p.example/cat.png, "),
    ],
)
def test_the_log_names_each_picture_once_and_shows_no_hash(gateway, logged, cat, image, line):
    run(submit(image=cat if image == "file" else image, allowed_paths="/"))
    assert logged.text().count(line) == 1
    told = f"Submitting to {dialect(gateway).picture_model}, an estimated 0.56 USD: prompt='a cat'"
    assert told in logged.text()
    assert logged.text().replace(told, "").count("image") == 1


@rows("order", [({"image_transport": "url"},)], myrouter=[({"model": "kling-v3.0-4k-i2v"},)])
def test_what_is_signed_for_the_gateway_is_told_by_source_and_hash_alone(
    gateway, logged, stored, storage, order
):
    ti, store = TI(), Store()
    operator = run(submit(image=ObjectStoragePath(stored), **order), ti, store)
    assert submits(gateway) == len(storage.expirations)
    facts = ti.xcoms["kling_request"]["pictures"]["image"]
    assert (facts["source"], len(facts["sha256"])) == (str(ObjectStoragePath(stored)), 64)
    assert "secret" not in shown(operator) + json.dumps([ti.xcoms, store.values]) + logged.text()


def test_a_retry_signs_anew_and_gets_the_same_job(gateway, stored, storage):
    store, order = Store(), {"image": stored, "image_transport": "url"}
    for _ in range(3):
        run(submit(**order), store=store)
    assert len(storage.expirations) == 3
    assert submits(gateway) == 1


def test_another_picture_under_the_same_name_is_another_request(gateway, stored):
    store, order = Store(), {"image": stored, "image_transport": "url"}
    run(submit(**order), store=store)
    ObjectStoragePath(stored).write_bytes(DOG)
    with pytest.raises(dialect(gateway).changed, match="has changed since"):
        run(submit(**order), store=store)
    assert submits(gateway) == 1


@rows(
    "model",
    [(PRO,), ("kling-2.5-turbo-i2v",)],
    myrouter=[("kling-v2.1-i2v",)],
    kling=[("image-to-video/kling-3.0-turbo",)],
)
@pytest.mark.parametrize("transport", ["auto", "data_uri", "base64"])
def test_the_gateway_gets_the_very_picture_in_every_form(gateway, cat, model, transport):
    run(submit(image=cat, model=model, image_transport=transport))
    assert gateway.times_paid(image=CAT) == 1


@at_myrouter("at Kling each model takes pictures as base64")
def test_a_model_that_takes_urls_only_says_so_for_nothing(gateway, cat):
    with pytest.raises(KlingInputError, match="cannot sign any") as caught:
        run(submit(image=cat, model="kling-v3.0-4k-i2v"))
    assert "Give a public URL" in caught.value.advice
    assert not gateway.requests
    run(submit(image=cat, model="kling-v3.0-4k-i2v", image_transport="data_uri"))
    assert gateway.times_paid(image=CAT) == 1


def test_several_pictures_reach_a_model_that_takes_several(gateway, cat, stored):
    run(submit(model=REF, images=[cat, CAT, SIGNED, stored]))
    assert gateway.times_paid(image=CAT) == 1


@pytest.mark.parametrize("transport", ["URL", None, "", "datauri"])
def test_a_transport_that_does_not_exist_is_refused_when_the_dag_is_parsed(transport):
    with pytest.raises(ValueError, match=r"image_transport=.*: must be one of auto, data_uri, base64, url"):
        submit(image_transport=transport)


def test_what_stands_in_the_dag_file_is_read_wherever_it_lies(gateway, cat):
    run(submit(image=cat))
    mappings = (
        lambda partial, _: partial(task_id="submit", model=PRO, **TEXT).expand(image=[cat]),
        lambda partial, _: partial(task_id="submit", model=PRO, image=cat).expand(prompt=["a", "b"]),
        lambda partial, _: partial(task_id="submit", model=PRO, **TEXT).expand_kwargs([{"image": cat}]),
        lambda partial, _: partial(task_id="submit", model=REF, **TEXT).expand(images=[[cat, SIGNED]]),
    )
    for number, mapping in enumerate(mappings):
        run(mapped(mapping), Pulling(map_index=0, task_id=f"t{number}"))
    assert gateway.times_paid(image=CAT) == 5


OUTSIDE = {
    "a template": lambda: submit(image="{{ params.image }}"),
    "a part of it": lambda: submit(image="{{ params.image }}"[:-2] + " ~ '' }}"),
    "a callable": lambda: submit(image=lambda context, jinja_env: context["params"]["image"]),
    "expand": lambda: mapped(
        lambda partial, output: partial(task_id="submit", model=PRO, **TEXT).expand(image=output)
    ),
    "expand_kwargs": lambda: mapped(
        lambda partial, output: partial(task_id="submit", model=PRO, **TEXT).expand_kwargs(output)
    ),
    "expand of lists": lambda: mapped(
        lambda partial, output: partial(task_id="submit", model=REF, **TEXT).expand(images=output)
    ),
    "a list for expand_kwargs": lambda: mapped(
        lambda partial, output: partial(task_id="submit", model=PRO, **TEXT).expand_kwargs([output])
    ),
}
GIVEN = {
    "expand": lambda path: [path],
    "expand_kwargs": lambda path: [{"image": path}],
    "expand of lists": lambda path: [[path]],
    "a list for expand_kwargs": lambda path: {"image": path},
}


@pytest.mark.parametrize("way", OUTSIDE)
def test_a_local_file_that_comes_from_outside_is_read_in_allowed_folders_only(gateway, monkeypatch, cat, way):
    value = GIVEN.get(way, str)(cat)
    index = -1 if OUTSIDE[way]().__class__ is KlingSubmitOperator else 0
    with pytest.raises(KlingInputError, match="only in folders that were allowed") as caught:
        run(OUTSIDE[way](), Pulling(value, map_index=index))
    assert "allowed_paths" in caught.value.advice
    assert not gateway.requests
    connect(gateway, monkeypatch, allowed_paths=[cat.rpartition("/")[0]])
    run(OUTSIDE[way](), Pulling(value, map_index=index))
    assert gateway.times_paid(image=CAT) == 1


def test_whatever_is_no_local_file_may_come_from_outside(gateway, stored):
    for value in (SIGNED, DATA, stored):
        run(submit(image="{{ params.image }}"), Pulling(value))
    assert submits(gateway) == 3


def test_bytes_that_a_template_has_made_a_text_of_are_refused_and_not_shown(gateway):
    operator = submit(image="{{ params.image }}")
    with pytest.raises(KlingInputError, match="a text of a picture's bytes") as caught:
        run(operator, Pulling(CAT))
    assert "image=make.output" in caught.value.advice
    assert "x89PNG" not in shown(operator)
    assert not gateway.requests


@pytest.mark.parametrize("way", ["expand_kwargs", "a list for expand_kwargs"])
def test_a_cost_limit_that_another_task_has_given_as_none_is_refused(gateway, way):
    request = {"image": SIGNED, "max_cost_usd": None}
    with pytest.raises(KlingInputError, match=r"max_cost_usd=.* must be a number of US dollars"):
        run(OUTSIDE[way](), Pulling([request] if way == "expand_kwargs" else request, map_index=0))
    assert not gateway.requests


def test_a_request_without_a_cost_limit_from_another_task_is_bought(gateway):
    run(OUTSIDE["expand_kwargs"](), Pulling([{"image": SIGNED}], map_index=0))
    assert submits(gateway) == 1


def test_a_cost_limit_that_stands_as_none_in_a_list_of_the_dag_file_is_no_limit(gateway):
    request = {"image": SIGNED, "max_cost_usd": None}
    run(
        mapped(lambda partial, _: partial(task_id="submit", model=PRO, **TEXT).expand_kwargs([request])),
        Pulling(map_index=0),
    )
    assert submits(gateway) == 1


def test_a_picture_may_be_as_large_as_the_gateway_allows(gateway, tmp_path):
    path = tmp_path / "cat.png"
    submit = KlingSubmitOperator(task_id="submit", image=str(path), prompt="a cat", model=PRO)
    path.write_bytes(png(noise=11 * 1024**2))
    if gateway.spoken == "kling":
        submit.execute(context_of(store=Store()))
        path.write_bytes(png(noise=51 * 1000**2))
    with pytest.raises(KlingInputError, match=r"more than the \d\d MiB allowed"):
        submit.execute(context_of(store=Store()))
    assert len(gateway.jobs) == (gateway.spoken == "kling")
