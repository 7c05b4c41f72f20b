"""Cards of the gallery as its API gives them, for tests without an Airflow."""

from __future__ import annotations

import base64
import io
import math
import random
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFilter

Card = dict[str, Any]

NOW = 1_790_000_000.0
MODEL = "kling-v3.0-pro-i2v"
RUNNING = ("no_slot", "submitting", "queued", "rendering", "waiting", "downloading")
GROUPS = {"running": RUNNING, "failed": ("failed", "uncertain")}
#: What a hostile gateway, Dag or user could put into any text.
HOSTILE = """"'><img src=x onerror="document.title='broken'"><script>document.title='broken'</script>"""

ERRORS: dict[str, dict[str, str]] = {
    "clear_wait": {
        "what": "The wait for job 5f3c… ended after 1 hour: the job still renders.",
        "money": "The job is paid for and goes on at the gateway.",
        "advice": "Clear this task. It continues with the same job, at no cost.",
    },
    "clear_download": {
        "what": "The video was not stored: no space left on device (/data/videos).",
        "money": "The video is paid for. Its link at the gateway is valid for 30 days.",
        "advice": "Make space, then clear the task download. It costs nothing.",
    },
    "rescue": {
        "what": "It is unknown whether the job was created: the answer to the submit was lost.",
        "money": "The job may be paid for.",
        "advice": "Look for the job in the gateway's console. If it is there, rescue it with its task id.",
    },
    "buy_again": {
        "what": "Kling refuses the picture: its moderation found something that it does not allow.",
        "money": "Nothing was charged.",
        "advice": "Change the picture or the prompt, then clear the task submit. That buys a new job.",
    },
}


@cache
def picture(seed: int, width: int = 320, height: int = 180, quality: int = 70) -> str:
    """Paint a landscape whose colours depend on the seed, as a small JPEG in a data URI."""
    rng = random.Random(seed)
    hue = rng.randrange(256)
    image = Image.new("HSV", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        share = y / height
        draw.line(((0, y), (width, y)), fill=(int(hue + 60 * share) % 256, 150, int(90 + 150 * share)))
    x, radius = rng.uniform(0.25, 0.75) * width, height * 0.14
    draw.ellipse((x - radius, height * 0.45 - radius, x + radius, height * 0.45 + radius), fill=(40, 60, 255))
    for layer in range(3):
        phase, level = rng.uniform(0, 6), height * (0.58 + 0.13 * layer)
        ridge = [(x, level + math.sin(x / width * 7 + phase) * height * 0.07) for x in range(0, width + 4, 4)]
        colour = (int(hue + 20 * layer) % 256, 170, 110 - 32 * layer)
        draw.polygon([(0, height), *ridge, (width, height)], fill=colour)
    out = io.BytesIO()
    image.convert("RGB").filter(ImageFilter.GaussianBlur(0.6)).save(out, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def card(name: str, state: str = "made", **changes: Any) -> Card:
    """Make a card of a state, with what such a card has."""
    seed = sum(name.encode())
    dag_id, run_id = "kling_image_to_video", changes.get("run_id", f"manual__{name}")
    running, over = state in RUNNING, state in ("made", "reused")
    job = None if state in ("submitting", "uncertain") else f"{seed:08x}-71c4-4e0a-9f3e-2b9d5c1a{seed:04x}"
    found: Card = {
        "key": f"{dag_id}/{run_id}/submit/-1",
        "dag_id": dag_id,
        "run_id": run_id,
        "map_index": -1,
        "name": name,
        "prompt": f"The camera slowly moves closer to the {name}.\nSoft light, no people.",
        "model": MODEL,
        "kling_task_id": job,
        "state": state,
        "percent": 42 if state == "rendering" else None,
        "eta_at": NOW + 40 if state == "rendering" else None,
        "seen_at": NOW - 4 if running and state != "submitting" else None,
        "duration_seconds": 5,
        "sound": seed % 2 == 0,
        "inputs": {"duration": 5},
        "estimated_cost_usd": 0.56,
        "cost_usd": None,
        "billed": "",
        "earlier_cost_usd": None,
        "submitted_at": NOW - 300,
        "queued_seconds": 4.2 if over else None,
        "rendered_seconds": 72.0 if over else None,
        "download_seconds": 2.1 if state == "made" else None,
        "downloaded_at": NOW - 60 if over else None,
        "path": f"/data/videos/2026/{name}.mp4" if over or state == "gone" else None,
        "size": 6_210_000 if over else None,
        "media": {"duration": 5.04, "width": 1920, "height": 1080, "frames_per_second": 24, "audio": True}
        if over
        else {},
        "source": picture(seed),
        "poster": picture(seed + 1) if over or state == "gone" else None,
        "player": f"kling/api/video/{dag_id}/{run_id}/download/-1" if over else None,
        "player_note": "The file is not there any more." if state == "gone" else None,
        "error": None,
        "tasks": {
            "submit": {"task_id": "submit", "map_index": -1, "state": "success", "try_number": 1},
            "wait": {
                "task_id": "wait",
                "map_index": -1,
                "state": "deferred" if running else "success",
                "try_number": 1,
            },
            "download": {
                "task_id": "download",
                "map_index": -1,
                "state": "success" if over else None,
                "try_number": 1 if over else 0,
            },
        },
        "action": None,
        "can_edit": True,
        "can_trigger": True,
        "run_cards": 1,
        "trigger_conf": {
            "image": f"/data/pictures/{name}.png",
            "prompt": f"The {name} waves.",
            "duration": 5,
        },
    }
    return found | changes


def failed(name: str, action: str, state: str = "failed", **changes: Any) -> Card:
    """Make a card of a failure with its action."""
    found = card(name, state, action=action, error=ERRORS[action] | {"class": "KlingError", "reason": "X"})
    task = {"clear_wait": "wait", "clear_download": "download"}.get(action, "submit")
    found["tasks"][task]["state"] = "failed"
    for later in {"submit": ("wait", "download"), "wait": ("download",), "download": ()}[task]:
        found["tasks"][later] |= {"state": "upstream_failed", "try_number": 0}
    return found | changes


def all_states() -> list[Card]:
    """Make a gallery with a card of each state."""
    portrait = {"source": picture(70, 180, 320), "poster": picture(71, 180, 320)}
    return [
        card("copper-lamp", "rendering"),
        card("oak-table", "queued"),
        card("stone-well", "waiting"),
        card("velvet-sofa", "downloading", percent=100),
        card("new-rug", "submitting"),
        card("beech-chair"),
        card("tall-vase", **portrait, media={"width": 1080, "height": 1920}),
        card("a meadow in the morning, from words only", source=None, model="kling-v3.0-std-t2v"),
        card("garden-bench", "reused"),
        card("wool-blanket", cost_usd=0.84, earlier_cost_usd=0.56, duration_seconds=10),
        failed("glass-bowl", "clear_wait"),
        failed("brass-clock", "clear_download"),
        failed("linen-shade", "rescue", "uncertain"),
        failed("marble-bust", "buy_again"),
        card("old-mirror", "gone"),
        card("no-previews", source=None, poster=None),
    ]


def head(cards: list[Card]) -> dict[str, Any]:
    """Count cards as the gallery's API does."""

    def count(*states: str) -> int:
        return sum(card["state"] in states for card in cards)

    costs = [card["estimated_cost_usd"] for card in cards]
    return {
        "made": count("made"),
        "running": count(*RUNNING),
        "failed": count("failed", "uncertain"),
        "reused": count("reused"),
        "gone": count("gone"),
        "maybe_charged": count("uncertain"),
        "estimated_cost_usd": sum(cost for cost in costs if cost),
        "cost_usd": None,
        "unknown_price": costs.count(None),
        "dags": sorted({card["dag_id"] for card in cards}),
        "models": sorted({card["model"] for card in cards if card["model"]}),
        "capped": False,
    }
