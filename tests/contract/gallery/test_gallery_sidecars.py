"""Videos that Airflow's database no longer knows: their sidecars tell of them."""

import json
import threading

import pytest
from gallery_stage import small_jpeg

from airflow_provider_kling.gallery import sidecars

VIDEO = b"\0\0\0\x0cftypisom\0\0\0\x08moov\0\0\0\x08mdat"
PICTURE = small_jpeg()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sidecars, "_kept", None)
    monkeypatch.setattr(sidecars, "_KEPT_FOR", 0.0)
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", f"{tmp_path}/none,{tmp_path}/videos")
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def store(path, n=1, **changes):
    sidecar = {
        "kling_task_id": f"job-{n}", "model": "m", "name": f"{n}.png", "estimated_cost_usd": 0.56,
        "dag_id": "shop", "run_id": "r1", "task_id": "download", "map_index": n,
        "inputs": {"prompt": f"The prompt of {n}"}, "preview": {"source": PICTURE, "poster": "javascript:1"},
        "downloaded_at": 1000.0 + n, "size": len(VIDEO),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(VIDEO)
    path.with_name(f"{path.name}.json").write_text(json.dumps(sidecar | changes))


def test_after_the_database_was_cleaned_the_files_tell_of_their_videos(gallery, folder):
    for n in range(5):
        store(folder / f"{n}/cat.mp4", n)
    answer = gallery.videos()
    assert (answer["cards"], answer["next"]) == ([], "files/")
    found = []
    while answer["next"]:
        answer = gallery.videos(cursor=answer["next"], limit=2)
        found += answer["cards"]
    assert [card["kling_task_id"] for card in found] == [f"job-{n}" for n in (4, 3, 2, 1, 0)]
    card = found[0]
    assert (card["state"], card["prompt"], card["name"]) == ("made", "The prompt of 4", "4.png")
    assert (card["estimated_cost_usd"], card["source"], card["poster"]) == (0.56, PICTURE, None)
    assert (card["can_edit"], card["action"], set(card["tasks"].values())) == (False, None, {None})
    assert gallery.get(f"/{card['player']}").content == VIDEO
    assert card.keys() == made_card(gallery).keys()


def made_card(gallery):
    """Return a card of the database."""
    gallery.add("make", operator="KlingImageToVideoOperator", kling_request={"kling_task_id": "x"})
    return gallery.videos()["cards"][0]


def test_videos_of_the_database_do_not_come_twice(gallery, folder):
    store(folder / "1.mp4", 1)
    store(folder / "2.mp4", 2)
    gallery.add(
        "download", map_index=1, kling_video={"kling_task_id": "job-1", "path": str(folder / "1.mp4")}
    )
    assert [card["kling_task_id"] for card in gallery.videos(cursor="files/")["cards"]] == ["job-2"]
    assert gallery.videos(cursor="files/", search="prompt of 1")["cards"] == []


def test_a_sidecar_without_its_video_says_that_it_is_gone(gallery, folder):
    store(folder / "cat.mp4")
    (folder / "cat.mp4").unlink()
    (card,) = gallery.videos(cursor="files/")["cards"]
    assert (card["state"], card["player"]) == ("gone", None)
    assert "moved or deleted" in card["player_note"]
    assert gallery.get("/kling/api/video/shop/r1/download/1").status_code == 404


def test_only_dags_that_the_user_may_read_are_shown(gallery, folder):
    store(folder / "1.mp4", 1)
    store(folder / "2.mp4", 2, dag_id="other")
    assert [card["dag_id"] for card in gallery.videos("otto", cursor="files/")["cards"]] == ["other"]
    assert gallery.get("/kling/api/video/shop/r1/download/1", "otto").status_code == 403
    assert gallery.get("/kling/api/videos?cursor=files/", user=None).status_code == 401


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"kling_task_id": "job"}',
        '{"a": 1e999}',
        "\x00",
        b"\xff\xfe".decode("latin-1"),
        "null",
    ],
)
def test_other_json_files_are_left_out(gallery, folder, text):
    (folder / "package.json").write_text(text)
    store(folder / "cat.mp4")
    store(folder / ".hidden.mp4")
    assert len(gallery.videos(cursor="files/")["cards"]) == 1


@pytest.mark.parametrize(
    "change", [{"dag_id": 7}, {"run_id": None}, {"map_index": "x"}, {"kling_task_id": []}]
)
def test_a_sidecar_that_names_no_task_instance_is_left_out(gallery, folder, change):
    store(folder / "cat.mp4", **change)
    assert gallery.videos(cursor="files/")["cards"] == []


def test_links_lead_nowhere(gallery, folder):
    store(folder.parent / "private/cat.mp4")
    (folder / "folder").symlink_to(folder.parent / "private")
    (folder / "round").symlink_to(folder)
    (folder / "cat.mp4.json").symlink_to(folder.parent / "private/cat.mp4.json")
    assert gallery.videos(cursor="files/")["cards"] == []


def test_the_search_has_a_bound(gallery, folder, monkeypatch):
    monkeypatch.setattr(sidecars, "_MAX_SIDECARS", 3)
    for n in range(5):
        store(folder / f"{n}.mp4", n)
    assert len(gallery.videos(cursor="files/")["cards"]) == 3
    monkeypatch.setattr(sidecars, "_MAX_SECONDS", 0.0)
    assert gallery.videos(cursor="files/")["cards"] == []


def test_foreign_json_files_hide_no_video(gallery, folder, monkeypatch):
    monkeypatch.setattr(sidecars, "_MAX_SIDECARS", 1)
    for n in range(9):
        (folder / f"{n}.json").write_text("{}")
    store(folder / "inner/cat.mp4")
    assert len(gallery.videos(cursor="files/")["cards"]) == 1


def test_a_search_ends_in_time_also_where_there_is_no_sidecar(folder, monkeypatch):
    walked = []

    def endless(_):
        while len(walked) < 1000:
            walked.append(1)
            yield f"{folder}/x", {"cat.png"}

    monkeypatch.setattr(sidecars, "_walk", endless)
    monkeypatch.setattr(sidecars, "_MAX_SECONDS", 0.0)
    assert sidecars.stored_videos() == []
    assert len(walked) <= 2


def test_a_search_that_goes_on_holds_up_none_that_has_an_older_list(folder, monkeypatch):
    store(folder / "cat.mp4")
    (video,) = sidecars.stored_videos()
    searches, go_on = threading.Event(), threading.Event()

    def slow(_):
        searches.set()
        go_on.wait(60)
        return iter(())

    monkeypatch.setattr(sidecars, "_search", slow)
    search = threading.Thread(target=sidecars.stored_videos)
    search.start()
    try:
        assert searches.wait(60)
        assert sidecars.stored_videos() == [video]
    finally:
        go_on.set()
        search.join()
    assert sidecars._kept[2] == []


def test_while_the_folders_are_searched_no_connection_of_the_database_is_held(gallery, folder, monkeypatch):
    from airflow import settings

    from airflow_provider_kling.gallery import app

    held = []
    monkeypatch.setattr(app, "stored_videos", lambda: held.append(settings.engine.pool.checkedout()) or [])
    gallery.get("/kling/api/video/shop/r1/download/1")
    gallery.videos(cursor="files/")
    assert held == [0, 0]


def test_a_folder_that_is_very_deep_is_not_searched_to_its_end(gallery, folder):
    store(folder.joinpath(*"abcdef", "cat.mp4"))
    store(folder.joinpath(*"abcdefg", "cat.mp4"))
    assert len(gallery.videos(cursor="files/")["cards"]) == 1


def test_a_folder_that_cannot_be_read_hides_no_other(gallery, folder, monkeypatch):
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", f"s3:x,nosuch://bucket/a,{folder}")
    store(folder / "cat.mp4")
    assert len(gallery.videos(cursor="files/")["cards"]) == 1


def test_without_the_setting_no_folder_is_searched(gallery, folder, monkeypatch):
    monkeypatch.setenv("AIRFLOW__KLING__GALLERY_FOLDERS", "")
    store(folder / "cat.mp4")
    monkeypatch.chdir(folder)
    assert gallery.videos()["next"] is None
    assert gallery.videos(cursor="files/")["cards"] == []
