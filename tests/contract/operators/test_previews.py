"""The small pictures of a job: made after the job is paid for and its id is stored, and never its failure."""

import io
import json
from random import Random

import av
import pytest
from airflow.sdk import DAG
from airflow_fakes import TI, Store, context_of, png
from chains import chain, execute, one_task, submit_of
from dialects import dialect
from fsspec.implementations.memory import MemoryFileSystem
from odd_servers import answering, serving
from PIL import Image

from airflow_provider_kling.errors import KlingVideoError
from airflow_provider_kling.media import preview
from airflow_provider_kling.operators import KlingDownloadOperator

pytestmark = pytest.mark.usefixtures("decoders")
JPEG = "data:image/jpeg;base64,"


def sidecar(path):
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def test_the_submit_shows_the_source_and_the_download_the_poster(rendering, tmp_path, picture):
    submitted, waited, downloaded = chain(tmp_path / "cat.mp4", picture)
    job, source, poster = submitted["return_value"], submitted["kling_preview"], downloaded["kling_preview"]
    assert source.pop("source").startswith(JPEG)
    assert poster.pop("poster").startswith(JPEG)
    assert source == {"kling_task_id": job, "poster": None}
    assert poster == {"kling_task_id": job, "source": None}
    assert "kling_preview" not in waited
    assert all(text.startswith(JPEG) for text in sidecar(tmp_path / "cat.mp4")["preview"].values())


def noise():
    """Return a picture that cannot be compressed."""
    return Image.frombytes("RGB", (900, 600), Random(1).randbytes(3 * 900 * 600))


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_one_task_shows_both_and_they_have_less_than_20_kb(rendering, monkeypatch, tmp_path, deferrable):
    noise().save(tmp_path / "noise.png")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=1, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 900, 600, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_image(noise())))
        container.mux(stream.encode())
    with serving(answering(file.getvalue())) as server:
        monkeypatch.setattr(rendering.links, "make", lambda *_: f"{server.url}/v.mp4")
        pushed = execute(one_task(tmp_path / "cat.mp4", f"{tmp_path}/noise.png", deferrable=deferrable))
    shown = pushed["kling_preview"]
    assert all(len(shown[name]) > 5000 for name in ("source", "poster"))
    assert len(json.dumps(shown)) < 20_000


def test_a_retry_shows_the_source_again(gateway, picture):
    store = Store()
    for _ in range(2):
        assert execute(submit_of(picture), store)["kling_preview"]["source"]
    assert len(gateway.jobs) == 1


def test_a_picture_that_the_gateway_fetches_is_not_shown(gateway):
    assert "kling_preview" not in execute(submit_of("https://pictures.example/cat.png"))


def test_a_picture_that_goes_as_a_signed_url_is_shown(gateway, attached):
    class Signing(MemoryFileSystem):
        store, pseudo_dirs = {}, [""]

        def sign(self, path, expiration=None, **kwargs):
            return f"https://storage.example/{path}?X-Amz-Signature=secret"

    storage = Signing(skip_instance_cache=True)
    folder = attached(storage)
    storage.pipe_file(f"/bucket/{folder.rstrip('/').rpartition('/')[2]}/cat.png", png())
    pushed = execute(submit_of(f"{folder}cat.png", image_transport="url"))
    assert pushed["kling_preview"]["source"].startswith(JPEG)
    assert "secret" not in json.dumps(pushed)


def test_the_source_is_decoded_after_the_job_is_paid_for_and_its_id_is_stored(gateway, picture, monkeypatch):
    store, ti, seen = Store(), TI(), []

    def run(*_, **__):
        seen.append(
            (store.values["kling_submit"]["kling_task_id"], ti.xcoms["kling_request"]["kling_task_id"])
        )
        raise OSError("no more processes")

    monkeypatch.setattr(preview.subprocess, "run", run)
    job = submit_of(picture).execute(context_of(ti, store))
    assert seen == [(job, job)]
    assert "kling_preview" not in ti.xcoms


def test_where_a_dead_task_would_buy_again_nothing_is_decoded_between_the_job_and_its_id(gateway, picture):
    ti = TI()
    job = submit_of(picture).execute(context_of(ti, None))  # as before Airflow 3.3: no task state store
    assert ti.xcoms["kling_request"]["kling_task_id"] == job
    assert ("kling_preview" in ti.xcoms) is dialect(gateway).finds_jobs  # then a dead task does not buy again


def test_a_preview_that_cannot_be_stored_fails_nothing(rendering, tmp_path, picture, logged):
    class Picky(TI):
        def xcom_push(self, key, value):
            if key == "kling_preview":
                raise RuntimeError("too much")
            super().xcom_push(key, value)

    task = one_task(tmp_path / "cat.mp4", picture)
    assert execute(task, ti=Picky())["kling_video"]
    assert logged.text().count("The preview of the") == 2
    assert len(rendering.jobs) == 1


def test_a_video_that_cannot_be_decoded_is_stored_all_the_same(gateway, tmp_path, picture, monkeypatch):
    monkeypatch.setattr(preview.subprocess, "run", lambda *_, **__: 1 / 0)
    pushed = execute(one_task(tmp_path / "cat.mp4", picture))
    assert pushed["kling_video"]["media"] is None
    assert sidecar(tmp_path / "cat.mp4")["media"] is None
    monkeypatch.setattr(preview.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError))
    with pytest.raises(KlingVideoError, match="No picture can be read"):
        execute(one_task(tmp_path / "dog.mp4", picture, verify_media=True))


def test_a_storage_that_does_not_give_the_new_file_back_takes_the_video(gateway, attached, picture):
    class WriteOnly(MemoryFileSystem):
        store, pseudo_dirs = {}, [""]

        def _open(self, path, mode="rb", **options):
            if mode == "rb" and path.endswith(".part"):
                raise PermissionError(path)
            return super()._open(path, mode, **options)

    target = f"{attached(WriteOnly(skip_instance_cache=True))}cat.mp4"
    assert execute(one_task(target, picture))["kling_video"]["path"] == target


@pytest.mark.parametrize("verify_media", [True, False])
def test_without_previews_nothing_is_shown_and_only_a_check_decodes(
    gateway, tmp_path, picture, monkeypatch, verify_media
):
    decoded, run = [], preview.subprocess.run
    monkeypatch.setattr(
        preview.subprocess,
        "run",
        lambda script, **options: decoded.append(script[4]) or run(script, **options),
    )
    task = one_task(
        tmp_path / "cat.mp4", picture, preview=False, verify_media=verify_media, duration=3, sound=False
    )
    pushed = execute(task) if not verify_media else None
    if verify_media:
        with pytest.raises(Exception, match="it lasts 1 s"):
            execute(task)
    else:
        assert "kling_preview" not in pushed
        assert pushed["kling_video"]["media"] is None
    assert decoded == ["video"] * verify_media
    assert "preview" not in sidecar(tmp_path / "cat.mp4")


@pytest.mark.parametrize(
    ("kept", "shown"),
    [(None, False), ("javascript:alert(1)", False), (JPEG + "x" * 10_000, False), (JPEG, True)],
)
def test_of_a_video_that_is_there_only_a_picture_of_ours_is_shown(gateway, tmp_path, picture, kept, shown):
    path = tmp_path / "cat.mp4"
    job = execute(one_task(path, picture))["kling_task_id"]
    changed = {**sidecar(path), "preview": {"source": kept, "poster": kept}}
    path.with_name("cat.mp4.json").write_text(json.dumps(changed))
    with DAG("d", schedule=None):
        task = KlingDownloadOperator(task_id="later", kling_task_id=job, target=str(path), if_exists="skip")
    pushed = execute(task)
    assert ("kling_preview" in pushed) is shown
    assert "javascript" not in json.dumps(pushed)


def test_a_check_of_a_video_that_is_there_takes_no_odd_preview(gateway, tmp_path, picture):
    path = tmp_path / "cat.mp4"
    job = execute(one_task(path, picture))["kling_task_id"]
    changed = {**sidecar(path), "inputs": {}, "preview": ["odd"]}
    path.with_name("cat.mp4.json").write_text(json.dumps(changed))
    with DAG("d", schedule=None):
        task = KlingDownloadOperator(
            task_id="later", kling_task_id=job, target=str(path), if_exists="skip", verify_media=True
        )
    assert execute(task)["kling_preview"]["poster"].startswith(JPEG)
