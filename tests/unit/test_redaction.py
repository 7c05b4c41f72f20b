"""What of a text may be shown: no secret in any spelling, no signature, no control character."""

import html
import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from hostile_spellings import HEADER, KEY, SIGNATURE
from hostile_spellings import SPELLINGS as COMMON
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.errors import KlingError
from airflow_provider_kling.gateways.base import Reply
from airflow_provider_kling.gateways.myrouter import probe, query, submit
from airflow_provider_kling.models.job import VideoJob
from airflow_provider_kling.redaction import NO_SECRETS, Redactor, redacted


def numbered(pattern):
    return lambda text: "".join(pattern.format(ord(char)) for char in text)


SPELLINGS = {
    **{name: spell for name, spell in COMMON.items() if "base64" not in name},
    "JavaScript numbers": numbered("\\x{:02x}"),
    "JavaScript numbers in braces": numbered("\\u{{{:x}}}"),
    "old JavaScript numbers": numbered("%u{:04x}"),
    "Python numbers": numbered("\\U{:08x}"),
    "octal numbers": numbered("\\{:03o}"),
    "all percent in capitals": numbered("%{:02X}"),
    "upper case": str.upper,
    "with blanks": " ".join,
    "with invisible characters": "\u200b".join,
    "on two lines": lambda text: f"{text[:5]}\r\n {text[5:]}",
    "hexadecimal": lambda text: text.encode().hex(),
}
BASE64 = {
    **{name: spell for name, spell in COMMON.items() if "base64" in name},
    "base64 of a user": lambda text: b64encode(f"a:{text}\n".encode()).decode(),
    "base64 for URLs": lambda text: urlsafe_b64encode(text.encode()).decode(),
}
ESCAPES = ["escaped as JSON", "escaped by number", "in percent", "as HTML", "as HTML numbers"]
#: What a connection takes as a key. Masks, very short keys and words of our own messages say nothing.
KEYS = (
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=7, max_size=39)
    .map("{}~".format)
    .filter(lambda key: "***" not in key and len(set(key)) > 3)
)


def plain(text):
    """Return all texts that a reader may take a text for, without blanks, in lower case."""
    texts = [text]
    for _ in range(4):
        text = html.unescape(text)
        text = re.sub(
            r"\\(?:u\{?([0-9a-fA-F]{2,4})\}?|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))",
            lambda m: m[5] or chr(int(m[1] or m[2] or m[3] or m[4], 8 if m[4] else 16)),
            text,
        )
        text = re.sub(r"%([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), text)
        texts.append(text)
    return [re.sub(r"[\s\u200b\ufffd]", "", text).lower() for text in texts]


def leaks(text, secret):
    return any(secret.lower() in one for one in plain(text)) or secret in text


@pytest.mark.parametrize("spelling", [*SPELLINGS, *BASE64])
def test_a_key_is_hidden_in_every_spelling(spelling):
    spelt = (SPELLINGS | BASE64)[spelling](KEY)
    shown = Redactor(KEY).shown(f"E42 the key {spelt} is wrong")
    assert shown.startswith("E42 the key ")
    assert "is wrong" in shown
    assert not leaks(shown, KEY)
    assert spelt not in shown


@settings(deadline=None)
@given(
    key=KEYS,
    inner=st.sampled_from(ESCAPES),
    outer=st.sampled_from([*SPELLINGS]),
    before=st.text(max_size=9),
    after=st.text(max_size=9),
)
def test_any_key_is_hidden_in_two_spellings_at_once(key, inner, outer, before, after):
    spelt = SPELLINGS[outer](SPELLINGS[inner](key))
    shown = Redactor(key).shown(f"{before} {spelt} {after}")
    assume(not leaks(f"{before} {after}", key))
    assert not leaks(shown, key)


@settings(deadline=None)
@given(key=KEYS, spelling=st.sampled_from([*BASE64]), before=st.text("aZ09+/ ", max_size=9))
def test_any_key_is_hidden_in_base64(key, spelling, before):
    spelt = BASE64[spelling](key)
    assert spelt not in Redactor(key).shown(f"{before} {spelt}")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_hidden_whose_escapes_look_like_the_end_of_a_url(spelling):
    shown = Redactor(KEY, HEADER[1:]).shown(f"see https://host.example/{SPELLINGS[spelling](HEADER[1])}, now")
    assert not any(part in text for text in plain(shown) for part in ("tok-7f", "fd9<&>yy"))


@settings(deadline=None)
@given(key=KEYS, length=st.integers(460, 520))
def test_a_text_is_cut_off_after_the_key_is_hidden(key, length):
    shown = Redactor(key).shown("x " * (length // 2) + key + " y" * 600)
    assert len(shown) <= 501
    assert not any(key[: len(key) // 2 + 1] in part for part in shown.split())


def test_a_key_that_is_cut_off_in_the_answer_is_hidden_too():
    key = "sk-0123456789abcdefghij"
    assert Redactor(key).shown(f"your key {key[:12]}") == "your key ***"
    assert Redactor(key).shown(f"{key[-12:]} is no key") == "*** is no key"
    assert Redactor(KEY).shown(json.dumps(KEY[-13:])) == '"***"'
    assert Redactor(key).shown("sk-0123 is how keys begin") == "sk-0123 is how keys begin"


def test_a_key_that_is_escaped_in_a_part_is_hidden_whole():
    for spelling in ("escaped as JSON", "as HTML", "in percent"):
        assert "Lm2p" not in Redactor(KEY).shown(f'{{"id": "{SPELLINGS[spelling](KEY)}"}}')


def test_a_control_character_is_replaced_also_where_it_is_escaped():
    assert NO_SECRETS.shown('{"id": "a\\u0000b\\u202e\\ud83d"}') == '{"id": "a\ufffdb\ufffd\ufffd"}'


def test_the_values_of_headers_are_hidden_unless_they_are_too_short_to_be_secret():
    redactor = Redactor("sk-key-of-mine", ['tok/"3 a+b\\c%2F', "eu", ""])
    assert redactor.shown('eu said tok/"3 a+b\\c%2F') == "eu said ***"
    assert redactor.shown(quote_plus('tok/"3 a+b\\c%2F')) == "***"


@pytest.mark.parametrize(
    ("value", "task_id"),
    [
        ("2024", "0b7c3a52-2024-4d4b-9a52-1d2f3e4a5b6c"),
        ("beta", "0b7c3a52-5f0e-4d4b-be7a-1d2f3e4a5b6c"),
        ("prod", "job-prod-0017"),
    ],
)
def test_a_short_value_of_a_header_hides_neither_an_id_nor_a_link(value, task_id):
    redactor = Redactor("sk-key-of-mine", [value])
    assert redactor.shown(f"it is {value}") == "it is ***"

    def reply(body, status=200):
        return Reply(status, {}, json.dumps(body).encode(), 0, redactor)

    call, lost = submit(VideoJob("m", {})), reply({"x": 1, "task_id": task_id}, 500)
    assert call.read(reply({"task_id": task_id})) == task_id
    with pytest.raises(KlingError) as caught:
        call.read(lost)
    assert task_id in caught.value.what
    body = {"task": {"status": "SUCCEED"}, "videos": [f"https://s.example/{value}/v.mp4"]}
    assert query(task_id).read(reply(body)).to_dict()["videos"][0]["video_url"] == body["videos"][0]


@pytest.mark.parametrize("text", ["100 % of job%2F17", "a \\ b", "R&D &amp; more", 'C:\\new\\"x"', "#$%&"])
def test_a_text_without_a_secret_stays_as_it_is(text):
    assert Redactor(KEY).shown(text) == text


def test_a_text_that_is_escaped_without_end_is_not_shown_and_counts_as_a_secret():
    text = KEY
    for _ in range(30):
        text = quote(text, safe="")
    assert "%" not in Redactor(KEY).shown(text)
    assert Redactor(KEY).finds_secret(text)
    assert Redactor("another-key").finds_secret(text)
    assert Redactor("another-key").finds_secret("x" * 100_000)


def test_a_number_that_is_too_long_to_be_read_hides_nothing():
    spelt = SPELLINGS["as HTML numbers"](KEY).replace("&#", "&#" + "0" * 5000)
    assert Redactor(KEY).finds_secret(f"&#{'1' * 5000}; {spelt}")
    assert not Redactor("another-key").finds_secret(f"&#{'1' * 5000};")


def seconds_for(redactor, text):
    """Return the least CPU time of some tries."""

    def once():
        begin = time.process_time()
        redactor.shown(text)
        return time.process_time() - begin

    return min(once() for _ in range(5))


@pytest.mark.parametrize(
    "piece",
    [
        *(
            " ",
            " x",
            "\u200b",
            "a ",
            "+",
            "a+",
            "secret +",
            "?",
            "?sig=",
            "?x-a-",
            "&",
            "&amp;",
            "&#x26;",
            "%25",
        ),
        *("\\", "\\u005c", "/", "//", "http:", "'", "//'", "@", ":", "aZ09", "=", "<", "http://a@"),
    ],
)
def test_the_time_for_a_text_grows_with_its_length_alone(piece):
    redactor = Redactor("a secret + of -some_ /words", ["a + b c d", "aaaaaaab"])
    short, long = (seconds_for(redactor, "a" + (piece * 60_000)[:length]) for length in (15_000, 60_000))
    assert long < 12 * short, "four times the text takes four times as long"


URLS = [
    f"https://host.example/a/v.mp4?X-Amz-Signature={SIGNATURE}",
    f"HTTPS://host.example/a/v.mp4?X-Amz-Signature={SIGNATURE}",
    f"hTTp://host.example:8443/a/v.mp4#{SIGNATURE}",
    f"https://host.example/a/v.mp4;jsessionid={SIGNATURE}",
    f" \n\thttps://host.example/v.mp4?sig={SIGNATURE}",
    f"//host.example/v.mp4?sig={SIGNATURE}",
    f"https://user@corp:{SIGNATURE}@host.example/v.mp4",
    f"https://user:{SIGNATURE}@host.example/v.mp4",
    f"https://{SIGNATURE}@host.example/v.mp4",
    f"https://user:a/b{SIGNATURE}@host.example/v.mp4",
    f"https://user:a?b{SIGNATURE}@host.example/v.mp4",
    f"s3://id:{SIGNATURE}@host.example/v.mp4",
    f"https:\\/\\/host.example\\/v.mp4?sig={SIGNATURE}",
    f"https:/host.example/v.mp4?sig={SIGNATURE}",
    f"https:host.example?sig={SIGNATURE}",
    f"https://host.example/my video.mp4?X-Amz-Signature={SIGNATURE}",
    f"https://host.example/v.mp4'?x={SIGNATURE}",
    f"https://host.example/it's?v.mp4={SIGNATURE}",
    f"https://host.example/v.mp4?x=1&\r\nX-Amz-Signature={SIGNATURE}",
    f"/v.mp4?X-Goog-Signature={SIGNATURE}&x=1",
]


@pytest.mark.parametrize("url", URLS)
def test_a_signed_url_is_cut_to_what_may_be_shown(url):
    for shown in (
        redacted(url),
        NO_SECRETS.shown(f'see "{url}", now'),
        redacted({"image": [url]})["image"][0],
    ):
        assert SIGNATURE not in shown
        assert "v.mp4" in shown or "host.example" in shown or "video.mp4" in shown


@settings(deadline=None)
@given(url=st.sampled_from(URLS), spelling=st.sampled_from(ESCAPES))
def test_a_signed_url_is_found_in_every_spelling(url, spelling):
    assert not leaks(NO_SECRETS.shown(f"see {SPELLINGS[spelling](url)} now"), SIGNATURE)


@pytest.mark.parametrize(
    "text", ["a cat waves", "either/or; and what?", "16:9", "and // or", "s3://conn@bucket/x.png"]
)
def test_a_text_without_a_signed_url_is_shown_as_it_is(text):
    assert redacted(text) == text


@settings(deadline=None)
@given(st.text())
def test_what_is_shown_fits_a_log_and_a_database(text):
    shown = Redactor(KEY).shown(text)
    assert not re.search(
        "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown
    )


PLACES = st.sampled_from(
    [
        "task_id",
        "status",
        "reason",
        "message",
        "code",
        "video_type",
        "video_url",
        "key",
        "location",
        "retry-after",
        "raw",
    ]
)


@settings(deadline=None)
@given(
    key=KEYS,
    place=PLACES,
    spelling=st.sampled_from([*SPELLINGS]),
    http_status=st.sampled_from([200, 302, 400, 401, 404, 429, 500]),
    word=st.sampled_from(["TASK_STATUS_SUCCEED", "TASK_STATUS_FAILED", "DREAMING"]),
)
def test_a_key_in_any_part_of_an_answer_is_in_nothing_that_comes_of_it(
    key, place, spelling, http_status, word
):
    words = f"E42 {SPELLINGS[spelling](key)}"
    link = (
        f"https://host.example/{quote(key, safe='')}?x={quote(key)}"
        if place == "video_url"
        else "https://host.example/v"
    )
    task = {"status": word, "reason": "r"} | ({place: words} if place in ("status", "reason") else {})
    body = {
        "task": task,
        "videos": [{"video_url": link, "video_type": words if place == "video_type" else "mp4"}],
    }
    if place in ("task_id", "message", "code"):
        body = {"reason": "NEW_REASON", place: key if place == "task_id" else words}
    if place == "key":
        body = {words: 1}
    data = words.encode("utf-8", "replace") if place == "raw" else json.dumps(body).encode()
    headers = {place: words} if place in ("location", "retry-after") else {}
    reply = Reply(http_status, headers, data, 1.7e9, Redactor(key))
    for call in (submit(VideoJob("m", {})), query("t-1"), probe()):
        try:
            value = call.read(reply)
        except KlingError as error:
            value = error
        said = value if isinstance(value, str) else json.dumps(value.to_dict() if value else {})
        assert not leaks(said, key)
        assert not leaks(str(value), key) or place == "video_url"  # in memory, the link must be whole
