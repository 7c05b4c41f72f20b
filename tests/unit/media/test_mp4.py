"""The check of an mp4: whole or not, in chunks of any size."""

import io
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kling.errors import KlingDownloadError, Money
from airflow_provider_kling.media.mp4 import Mp4Check, check_headers


def box(kind, payload=b"", *, long=False, size=None):
    head = 16 if long else 8
    size = head + len(payload) if size is None else size
    return (b"\0\0\0\1" + kind + size.to_bytes(8) if long else size.to_bytes(4) + kind) + payload


FTYP, MOOV, MDAT = box(b"ftyp", b"isom\0\0\2\0"), box(b"moov", b"m" * 60), box(b"mdat", b"d" * 40)
WHOLE = FTYP + MOOV + MDAT


def verdict(pieces, expected=None):
    check = Mp4Check()
    for piece in pieces:
        check.feed(piece)
    try:
        check.finish(expected)
    except KlingDownloadError as error:
        return str(error)
    return "whole"


def verdict_by_headers(data):
    file = Seen(data)
    try:
        check_headers(file, len(data))
    except KlingDownloadError as error:
        return str(error)
    return "whole"


class Seen(io.BytesIO):
    """A file that counts the bytes that are read."""

    taken = 0

    def read(self, size=-1):
        found = super().read(size)
        self.taken += len(found)
        return found


GOOD = {
    "as usual": WHOLE,
    "the index last": FTYP + MDAT + MOOV,
    "with boxes between": FTYP + box(b"free") + MOOV + box(b"uuid", b"x" * 30) + MDAT + box(b"free", b"y"),
    "with 64-bit sizes": FTYP + MOOV + box(b"mdat", b"d" * 40, long=True),
    "all 64-bit": b"".join(box(kind, b"x" * 9, long=True) for kind in (b"ftyp", b"moov", b"mdat")),
    "a last box to the end": FTYP + MOOV + box(b"mdat", b"d" * 40, size=0),
    "empty boxes": box(b"ftyp") + box(b"moov") + box(b"mdat"),
}
BAD = {
    "nothing": (b"", "not an mp4"),
    "a page": (b"<!doctype html><title>Sign in</title>", "not an mp4, by its content; it is HTML."),
    "zeros": (bytes(100), "not an mp4"),
    "no moov": (FTYP + MDAT, "no video in it"),
    "no mdat": (FTYP + MOOV, "no video in it"),
    "a box beyond the end": (
        FTYP + MOOV + box(b"mdat", b"d", size=2**31),
        f"its last box, b'mdat', ends at byte {len(FTYP + MOOV) + 2**31}",
    ),
    "a huge box": (FTYP + MOOV + box(b"mdat", b"d", long=True, size=2**64 - 1), "is not whole"),
    "a long box shorter than its header": (
        box(b"ftyp", b"x" * 8, long=True, size=8) + MOOV + MDAT,
        "any",
    ),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_a_whole_video_passes(data):
    assert verdict([data]) == verdict([data], len(data)) == verdict_by_headers(data) == "whole"


@pytest.mark.parametrize(("data", "words"), BAD.values(), ids=BAD)
def test_an_incomplete_or_wrong_file_is_reported(data, words):
    problem = verdict([data])
    assert words in problem or (words == "any" and problem != "whole")
    assert Money.PAID in problem
    assert verdict_by_headers(data) == verdict([data], len(data))


def test_of_a_file_only_the_headers_of_its_boxes_are_read():
    file = Seen(FTYP + MOOV + box(b"mdat", bytes(10_000_000)) + box(b"free"))
    check_headers(file, len(file.getbuffer()))
    assert file.taken <= 4 * 16


@pytest.mark.parametrize("data", [GOOD["as usual"], GOOD["the index last"], GOOD["all 64-bit"]])
def test_a_video_that_is_cut_at_any_byte_is_not_whole(data):
    for cut in range(len(data)):
        assert verdict([data[:cut]]) != "whole"
        assert verdict([data[:cut]], len(data)) != "whole"
        assert verdict_by_headers(data[:cut]) != "whole"


def test_the_announced_size_is_checked():
    assert "145 bytes came" not in verdict([WHOLE])
    for promised in (len(WHOLE) - 1, len(WHOLE) + 1):
        assert f"{len(WHOLE)} of {promised} bytes came" in verdict([WHOLE], promised)
    assert f"{len(WHOLE)} of {len(WHOLE) + 9} bytes" in verdict(
        [FTYP + MOOV + box(b"mdat", b"d" * 40, size=0)], len(WHOLE) + 9
    )


def test_junk_after_the_last_box_is_named():
    words = f"{len(WHOLE) + 3} bytes came, but the last 3 are only the beginning of a box"
    assert words in verdict([WHOLE + b"end"])


def test_a_cut_off_file_of_the_announced_size_is_reported_as_such():
    cut = WHOLE[:-7]
    assert f"{len(cut)} bytes came, but its last box, b'mdat', ends at byte {len(WHOLE)}" in verdict(
        [cut], len(cut)
    )
    assert f"{len(cut)} of" not in verdict([cut], len(cut))


class Counted(bytes):
    """Bytes that count how many of them are copied out."""

    copied = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Counted.copied += len(found)
        return found


@pytest.mark.parametrize("kind", [b"free", b"mdat", b"\0\0\0\0"])
@pytest.mark.parametrize("long", [False, True])
def test_the_time_is_linear_in_the_bytes_also_with_small_boxes(kind, long):
    data = FTYP + box(kind, long=long) * 90_000
    Counted.copied = 0
    verdict([Counted(data)])
    assert Counted.copied < 3 * len(data)


def test_the_number_of_boxes_is_limited():
    check = Mp4Check()
    check.feed(WHOLE)
    piece = Counted(box(b"free") * 200_000)
    Counted.copied = 0
    for _ in range(10):
        check.feed(piece)
    assert Counted.copied < 16 * 100_001
    with pytest.raises(KlingDownloadError, match="more than 99999 boxes"):
        check.finish(None)


def test_the_memory_does_not_grow_with_the_boxes():
    def held(pieces):
        check = Mp4Check()
        for _ in range(pieces):
            check.feed(box(b"free") * 1000)
        return sum(sys.getsizeof(value) for value in vars(check).values())

    assert held(80) <= held(1) + 100


def test_only_the_first_bytes_are_kept():
    check = Mp4Check()
    for _ in range(100):
        check.feed(b"x" * 1000)
    assert (len(check.first_bytes), check.size) == (64, 100_000)


def pieces_of(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


BOXES = st.builds(
    box,
    st.sampled_from([b"ftyp", b"moov", b"mdat", b"free"]),
    st.binary(max_size=30),
    long=st.booleans(),
    size=st.none() | st.integers(0, 80) | st.just(2**31),
)
FILES = st.sampled_from([*GOOD.values(), *(data for data, _ in BAD.values())]) | st.lists(
    BOXES, max_size=6
).map(b"".join)


@settings(max_examples=500)
@given(FILES, st.lists(st.integers(0, 10_000), max_size=20), st.none() | st.integers(0, 300))
def test_the_result_does_not_depend_on_the_chunks(data, cuts, expected):
    at_once = verdict([data], expected)
    assert verdict(pieces_of(data, cuts), expected) == at_once
    assert verdict([data[i : i + 1] for i in range(len(data))], expected) == at_once
