"""What a job costs, in units: the emulator's own table."""

from __future__ import annotations

from decimal import Decimal

USD_PER_UNIT = Decimal("0.14")
SOURCE_SECONDS = 5  # a source video is never fetched: each one counts as this long
UNKNOWN = {"720p": "1", "1080p": "1", "4k": "1"}  # of a model that a setting adds

# Units for a second of video.
UNITS = {
    "kling-3.0-turbo": {"sound": {"720p": "0.8", "1080p": "1.0"}},
    "kling-3.0": {
        "silent": {"720p": "0.6", "1080p": "0.8", "4k": "3.0"},
        "sound": {"720p": "0.9", "1080p": "1.2", "4k": "3.0"},
        "motion": {"720p": "0.9", "1080p": "1.2"},
    },
    "kling-3.0-omni": {
        "silent": {"720p": "0.6", "1080p": "0.8", "4k": "3.0"},
        "sound": {"720p": "0.8", "1080p": "1.0", "4k": "3.0"},
        "with video": {"720p": "0.9", "1080p": "1.2", "4k": "3.0"},
    },
    "kling-o1": {
        "silent": {"720p": "0.6", "1080p": "0.8"},
        "with video": {"720p": "0.9", "1080p": "1.2"},
    },
    "kling-2.6": {
        "silent": {"720p": "0.3", "1080p": "0.5"},
        "sound": {"1080p": "1.0"},
        "voice": {"1080p": "1.2"},
        "motion": {"720p": "0.5", "1080p": "0.8"},
    },
    "kling-2.5-turbo": {"silent": {"720p": "0.3", "1080p": "0.5"}},
}


def units(model: str, kind: str, resolution: str, seconds: int) -> Decimal:
    """Return the units of a video; *kind* is silent, sound, voice, motion or with video."""
    kinds = UNITS.get(model, {})
    rates = kinds.get(kind) or next(iter(kinds.values()), UNKNOWN)
    return Decimal(rates[resolution]) * seconds


def written(amount: Decimal) -> str:
    """Return an amount as Kling writes it: without zeros at its end."""
    return f"{amount.normalize():f}"
