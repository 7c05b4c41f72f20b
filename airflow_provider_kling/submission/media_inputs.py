"""Reads and checks the pictures and the video of a request before the submit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_kling.errors import KlingInputError, KlingUnavailableError
from airflow_provider_kling.media.pictures import (
    MAX_PICTURE_BYTES,
    check_picture,
    check_size,
    check_video,
    from_base64,
)
from airflow_provider_kling.models.input_names import PICTURE_INPUTS, VIDEO_INPUT
from airflow_provider_kling.models.inputs import plain_value
from airflow_provider_kling.redaction import BYTES_AS_TEXT, PICTURES_IN_BASE64, redacted
from airflow_provider_kling.storage.allowed_paths import StoragePath, resolve_path
from airflow_provider_kling.storage.files import file_size, read_file, signed_url
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.values import is_link

_LONGEST_PATH = 4096
_ON_OTHER_WORKER = (
    "A retry may run on another worker, which has the file. Correct the path, or keep pictures on a storage "
    "that all workers share."
)

Form = Literal["data_uri", "base64", "url"]


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """How the pictures of a request are read and sent.

    :param form: how a picture that is no public URL is sent: its data, or a signed URL.
    :param from_outside: names of the inputs that the Dag file does not have.
    """

    settings: Settings
    form: Form = "data_uri"
    check_url: bool = False
    allowed_paths: Sequence[str] = ()
    from_outside: Collection[str] = ()
    max_picture_bytes: int = MAX_PICTURE_BYTES
    max_video_bytes: int = MAX_PICTURE_BYTES


class MediaInputs:
    """Brings the pictures and the video of one request into the form in which they are sent."""

    def __init__(self, options: MediaOptions, log: Any) -> None:
        self._options, self._log = options, log
        #: What may be shown of them, by input: source, hash, sides.
        self.facts: dict[str, Any] = {}
        #: The bytes of the first picture that was read.
        self.first_picture: bytes | None = None
        #: What each URL that was signed here stands for, whenever it is signed.
        self.signed: dict[str, str] = {}

    def prepare(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs with each picture and the video as they go to the gateway.

        :param inputs: under the operator's names; what is no picture at all is left for the validation.
        :raises KlingInputError: naming the argument, what was given and what is allowed.
        :raises KlingUnavailableError: a host or a storage does not answer, or a local picture is not on this
            worker: another worker may have it.
        """
        ready = dict(inputs)
        for name in PICTURE_INPUTS:
            value = plain_value(inputs.get(name))
            if isinstance(value, list):
                places = [f"{name}[{number}]" for number in range(len(value))]
                pairs = [self._picture(*pair, name) for pair in zip(places, value, strict=True)]
                ready[name], self.facts[name] = [sent for sent, _ in pairs], [facts for _, facts in pairs]
            elif _is_set(value):
                ready[name], self.facts[name] = self._picture(name, value, name)
                if name == "images":
                    ready[name], self.facts[name] = [ready[name]], [self.facts[name]]
        if _is_set(video := plain_value(inputs.get(VIDEO_INPUT))):
            ready[VIDEO_INPUT], self.facts[VIDEO_INPUT] = self._video(video)
        return ready

    def _picture(self, argument: str, value: Any, name: str) -> tuple[Any, dict[str, Any]]:
        """Return what goes to the gateway for one picture, and what may be shown of it."""
        if not _is_set(value):
            return value, {}
        if isinstance(value, str) and is_link(value := value.strip()):
            return value, self._linked(argument, value)
        path, data = self._read(argument, value, name)
        source = str(path or "data")
        picture = check_picture(data, argument, source, self._options.max_picture_bytes)
        self._log.info("%s: %s, %s", argument, path.name if path else "data", picture.describe())
        if cut := len(data) - len(picture.data):
            self._log.warning("%s: the %d bytes after the picture's end are not sent.", argument, cut)
        self.first_picture = self.first_picture or picture.data
        facts: dict[str, Any] = {"source": source, "sha256": picture.sha256}
        facts |= {"width": picture.width, "height": picture.height}
        if self._options.form != "url":
            return picture.as_base64(bare=self._options.form == "base64"), facts
        if not path:
            what = f"{argument}: it has to go to the gateway as a URL, and a picture's data has none."
            raise KlingInputError(
                what, advice="Give a public URL, or a path on a storage that can sign URLs."
            )
        return self._sign(argument, path, facts["sha256"]), facts

    def _read(self, argument: str, value: str | bytes, name: str) -> tuple[StoragePath | None, bytes]:
        """Return a picture's path, None where it came as data, and its bytes."""
        if isinstance(value, bytes):
            return None, value
        if value.startswith(BYTES_AS_TEXT):
            what = f"{argument}: a template has made a text of a picture's bytes."
            raise KlingInputError(what, advice=f"Give the other task's output itself: {name}=make.output")
        data = from_base64(value) if may_be_data(value) else None
        if data is None and (value.startswith("data:") or len(value) > _LONGEST_PATH):
            raise KlingInputError(f"{argument}={value[:20] + '…'!r}: neither a base64 data URI nor base64.")
        if data is not None:
            return None, data
        path = self._resolved(argument, value, name)
        try:
            return path, read_file(path, argument, self._options.max_picture_bytes + 1)
        except KlingInputError as error:
            if not (path.is_local and isinstance(error.__context__, FileNotFoundError)):
                raise
            raise KlingUnavailableError(error.what, advice=_ON_OTHER_WORKER) from None

    def _linked(self, argument: str, url: str) -> dict[str, Any]:
        self._log.info("%s: %s, which the gateway fetches", argument, redacted(url))
        if not self._options.check_url:
            return {"source": redacted(url)}
        from airflow_provider_kling.transport.url_check import check_picture_link  # noqa: PLC0415 - an HTTP library

        shape = check_picture_link(url, argument, self._options.settings, self._options.max_picture_bytes)
        return {"source": redacted(url), "width": shape.width, "height": shape.height}

    def _video(self, value: Any) -> tuple[Any, dict[str, Any]]:
        """Return the URL of the video: the gateway takes no other form."""
        if isinstance(value, str) and is_link(value := value.strip()):
            if self._options.check_url:
                from airflow_provider_kling.transport.url_check import check_video_link  # noqa: PLC0415 - an HTTP library

                check_video_link(value, VIDEO_INPUT, self._options.settings, self._options.max_video_bytes)
            return value, {"source": redacted(value)}
        if not isinstance(value, str) or value.startswith("data:") or len(value) > _LONGEST_PATH:
            said = str(redacted(value))[:60]
            what = f"video={said!r}: must be a URL, or a path on a storage that can sign URLs."
            raise KlingInputError(what)
        path = self._resolved(VIDEO_INPUT, value, VIDEO_INPUT)
        check_video(read_file(path, VIDEO_INPUT, 256), VIDEO_INPUT, value)
        size = file_size(path, VIDEO_INPUT)
        check_size(size, VIDEO_INPUT, value, self._options.max_video_bytes)
        return self._sign(VIDEO_INPUT, path, f"{size} bytes"), {"source": str(path), "size": size}

    def _sign(self, argument: str, path: StoragePath, content: str) -> str:
        url = signed_url(path, argument)
        self.signed[url] = f"{path} {content}"
        return url

    def _resolved(self, argument: str, given: str, name: str) -> StoragePath:
        limits = (self._options.allowed_paths, self._options.settings.allowed_paths)
        path = resolve_path(given, argument, *limits)
        if path.is_local and not any(limits) and name in self._options.from_outside:
            what = f"{argument}={given!r}: a local file that a template, a mapping or another task has named"
            advice = "Name them: allowed_paths=['/data'] on the operator or in the connection."
            raise KlingInputError(f"{what} is read only in folders that were allowed.", advice=advice)
        return path


def _is_set(value: Any) -> bool:
    """Return whether a value is a text or bytes that are set. The validation refuses the others."""
    return isinstance(value, bytes) or (isinstance(value, str) and value.strip() not in ("", "None"))


def may_be_data(value: str) -> bool:
    """Return whether a text is the data of a picture, and not a path or URL."""
    return value.startswith(("data:", *PICTURES_IN_BASE64)) or len(value) > _LONGEST_PATH
