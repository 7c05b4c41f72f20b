"""What a connection says is read in every form, and each wrong field is named."""

import json
import ssl
from base64 import b64encode
from decimal import Decimal
from types import SimpleNamespace

import certifi
import pytest

from airflow_provider_kling.errors import KlingAccessError
from airflow_provider_kling.transport.settings import Settings
from airflow_provider_kling.transport.tls import tls_context, verification

KEY = "sk-test-1"
PEM = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n"


def connection(extra=None, **fields):
    plain = {"conn_id": "my_kling", "host": None, "schema": None, "port": None, "password": KEY}
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return SimpleNamespace(**plain | fields, extra=text)


def settings(extra=None, **fields):
    return Settings.from_connection(connection(extra, **fields))


def refusal(extra=None, **fields):
    with pytest.raises(KlingAccessError) as caught:
        settings(extra, **fields)
    words = str(caught.value)
    assert words.startswith("Connection 'my_kling': ")
    assert "Admin, Connections" in words
    return words


def test_a_key_is_all_that_a_connection_needs():
    read = settings()
    assert (read.base_url, read.api_key) == ("https://api.myrouter.ai", KEY)
    assert (read.request_timeout, read.default_model) == (60.0, "kling-v3.0-pro-i2v")
    assert (read.allow_private_hosts, read.trust_env, read.verify) == (False, True, True)
    assert (read.proxies, read.cert, read.headers) == ({}, (), {})


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": ""}, "https://api.myrouter.ai"),
        ({"host": " api.novita.ai "}, "https://api.novita.ai"),
        ({"host": "API.Novita.ai"}, "https://api.novita.ai"),
        ({"host": "https://api.novita.ai/"}, "https://api.novita.ai"),
        ({"host": "HTTP://api.novita.ai"}, "http://api.novita.ai"),
        ({"host": "api.novita.ai", "schema": "http"}, "http://api.novita.ai"),
        ({"host": "api.novita.ai", "schema": "HTTPS"}, "https://api.novita.ai"),
        ({"host": "api.novita.ai", "port": 8443}, "https://api.novita.ai:8443"),
        ({"host": "api.novita.ai:8443"}, "https://api.novita.ai:8443"),
        ({"host": "https://api.novita.ai:8443", "port": 8443}, "https://api.novita.ai:8443"),
        ({"host": "https://api.novita.ai", "port": 0}, "https://api.novita.ai"),
        ({"port": 8443}, "https://api.myrouter.ai:8443"),
        ({"host": "https://api.novita.ai:8443", "port": 443}, "https://api.novita.ai:8443"),
        ({"host": "http://127.0.0.1:8080", "port": 443}, "http://127.0.0.1:8080"),
        ({"host": "http://gateway.example", "port": 443}, "http://gateway.example"),
        ({"host": "https://proxy.example/kling/v1/"}, "https://proxy.example/kling/v1"),
        ({"host": "proxy.example", "schema": "kling/v1"}, "https://proxy.example/kling/v1"),
        ({"host": "https://proxy.example/a", "schema": "/b/"}, "https://proxy.example/a/b"),
        ({"host": "https://proxy.example/kling", "port": 444}, "https://proxy.example:444/kling"),
        ({"host": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"host": "http://[::1]:8080/x"}, "http://[::1]:8080/x"),
        ({"host": "http://[::1]", "port": 80}, "http://[::1]:80"),
        ({"host": "https://api.novita.ai", "schema": "http"}, "https://api.novita.ai"),
    ],
)
def test_the_host_is_read_in_every_form(fields, url):
    assert settings(**fields).base_url == url


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": "ftp://x"}, "host='ftp://x'"),
        ({"host": "https://"}, "host='https://'"),
        ({"host": "my host"}, "host='https://my host'"),
        ({"host": "https://x?key=1"}, "host='https://x?key=1'"),
        ({"host": "https://x#y"}, "host='https://x#y'"),
        ({"host": "https://[::1"}, "host='https://[::1'"),
        ({"host": "https://x:port"}, "host='https://x:port'"),
        ({"host": "https://x:70000"}, "host='https://x:70000'"),
        ({"host": "https://x\u2100y"}, "host="),
        ({"host": "https://u:p@x"}, "user name or password"),
        ({"host": "https://u@x"}, "user name or password"),
        ({"port": -1}, "port=-1"),
        ({"port": 70000}, "port=70000"),
        ({"host": "https://x:1", "port": 2}, "the host says port 1, the port field says 2"),
    ],
)
def test_a_wrong_host_or_port_is_named(fields, words):
    assert words in refusal(**fields)


def test_a_password_in_the_host_is_not_repeated():
    assert "s3cret" not in refusal(host="https://u:s3cret@[x")


@pytest.mark.parametrize("form", [KEY, f" {KEY}\n", f"Bearer {KEY}", f"bearer  {KEY} "])
def test_the_key_is_taken_as_it_is_pasted(form):
    assert settings(password=form).api_key == KEY


@pytest.mark.parametrize("form", [None, "", " ", "Bearer ", "bearer"])
def test_a_missing_key_is_named(form):
    assert "the API key is missing; it belongs in the password" in refusal(password=form)


@pytest.mark.parametrize("form", ["a b", "kéy", "a\nb", "a\x00b", "…", "a\x7f"])
def test_a_key_that_cannot_be_one_is_refused_without_being_repeated(form):
    words = refusal(password=form)
    assert "API key has a space or a character that no key has" in words
    assert form not in words


def test_the_key_is_in_no_representation():
    assert KEY not in repr(settings({"X-Token": "t0ken"}))
    assert "t0ken" not in repr(settings({"X-Token": "t0ken"}))


@pytest.mark.parametrize(
    ("form", "seconds"), [(1, 1.0), (600, 600.0), ("30", 30.0), (2.5, 2.5), (None, 60.0)]
)
@pytest.mark.parametrize("name", ["request_timeout", "timeout"])
def test_a_timeout_is_a_number_of_seconds(name, form, seconds):
    assert settings({name: form}).request_timeout == seconds


@pytest.mark.parametrize("form", [0, 0.5, 601, -1, "soon", "", True, [], {}, "nan", 10**400])
@pytest.mark.parametrize("name", ["request_timeout", "timeout"])
def test_a_wrong_timeout_is_named(name, form):
    assert f" {name}={form!r} is not a number of seconds from 1 to 600" in refusal({name: form})


def test_our_own_timeout_counts_before_the_http_providers():
    assert settings({"request_timeout": 5, "timeout": 7}).request_timeout == 5


@pytest.mark.parametrize(("form", "rate"), [(5, 5.0), ("0.1", 0.1), (10000, 10000.0), (None, 100.0)])
def test_the_queries_of_a_second_are_read_in_every_form(form, rate):
    assert settings({"queries_per_second": form}).queries_per_second == rate


@pytest.mark.parametrize("wrong", [0, 0.09, 10001, -1, True, "many", [], "nan"])
def test_a_wrong_number_of_queries_is_named_with_what_is_allowed(wrong):
    with pytest.raises(KlingAccessError, match=r"queries_per_second=.* is not a number from 0\.1 to 10000"):
        settings({"queries_per_second": wrong})


def test_the_default_model_is_a_name():
    assert settings({"default_model": "kling-o1-t2v"}).default_model == "kling-o1-t2v"
    assert settings({"default_model": ""}).default_model == "kling-v3.0-pro-i2v"
    for wrong in (7, "a/b", " x", []):
        assert f"default_model={wrong!r}" in refusal({"default_model": wrong})


def test_private_hosts_are_a_flag():
    for form in (True, "true", "True"):
        assert settings({"allow_private_hosts": form}).allow_private_hosts is True
    for form in (False, "false", None):
        assert settings({"allow_private_hosts": form}).allow_private_hosts is False
    for wrong in ("yes", 1, []):
        assert f"allow_private_hosts={wrong!r}" in refusal({"allow_private_hosts": wrong})


@pytest.mark.parametrize("extra", ["{", "[]", "7", '"x"'])
def test_an_extra_that_is_no_object_is_named(extra):
    assert "the extra is not a JSON object" in refusal(extra)


@pytest.mark.parametrize("extra", [None, "", "{}", "null"])
def test_an_extra_may_be_empty(extra):
    if extra == "null":
        assert "the extra is not a JSON object" in refusal(extra)
    else:
        assert settings(extra).http_extra == {}


PROXIES = {"https": "http://user:s3cret@proxy.example:3128"}


@pytest.mark.parametrize("name", ["proxies", "proxy"])
def test_proxies_go_by_scheme(name):
    assert settings({name: PROXIES}).proxies == PROXIES


@pytest.mark.parametrize("name", ["verify", "verify_ssl"])
def test_certificates_are_verified_unless_told_otherwise(name):
    assert settings({name: False}).verify is False
    assert settings({name: "/a/bundle"}).verify == "/a/bundle"


def test_the_environment_and_a_client_certificate_are_settings_too():
    assert settings({"trust_env": False}).trust_env is False
    assert settings({"cert": "/a"}).cert == ("/a",)
    assert settings({"cert": ["/a", "/b"]}).cert == ("/a", "/b")


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"proxies": "http://user:s3cret@proxy"}, "proxies"),
        ({"proxies": {"https": 7}}, "proxies"),
        ({"proxy": ["s3cret"]}, "proxy"),
        ({"verify": 1}, "verify"),
        ({"verify_ssl": []}, "verify_ssl"),
        ({"cert": 7}, "cert"),
        ({"cert": ["/a"]}, "cert"),
        ({"cert": ["/a", 7]}, "cert"),
        ({"trust_env": "no"}, "trust_env"),
        ({"X-Nested": {"s3cret": 1}}, "X-Nested"),
        ({"X-List": ["s3cret"]}, "X-List"),
        ({"X-Line": "s3cret\r\nX-Other: 1"}, "X-Line"),
        ({"X-Wide": "s3cret\u2603"}, "X-Wide"),
        ({"X Space": "s3cret"}, "X Space"),
        ({"": "s3cret"}, ""),
        ({"Authorization": "Bearer s3cret"}, "Authorization"),
        ({"authorization": "Bearer s3cret"}, "authorization"),
    ],
)
def test_what_the_transport_cannot_use_is_named_and_not_repeated(extra, name):
    words = refusal(extra)
    assert f"the extra's {name!r}" in words
    assert "s3cret" not in words


def test_what_nobody_knows_is_a_header_for_the_gateway():
    extra = {"X-Team": "video", "X-Number": 7, "stream": True, "srv_lookup": False, "allow_redirects": True}
    assert settings({**extra, "default_model": "m", "request_timeout": 5}).headers == {
        "X-Team": "video",
        "X-Number": "7",
    }


def test_the_bundle_is_the_connections_or_the_environments_or_the_usual_one(monkeypatch, tmp_path):
    own = tmp_path / "own.pem"
    own.write_text(PEM)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert verification(settings()) == certifi.where()
    monkeypatch.setenv("CURL_CA_BUNDLE", "/of/curl")
    assert verification(settings()) == "/of/curl"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/requests")
    assert verification(settings()) == "/of/requests"
    assert verification(settings({"trust_env": False})) == certifi.where()
    assert verification(settings({"verify": str(own)})) == str(own)
    assert verification(settings({"verify": False})) is False


@pytest.mark.parametrize(
    "extra", [{"verify": "/no/such"}, {"cert": "/no/such"}, {"cert": ["/dev/null", "/no/such"]}]
)
def test_a_certificate_that_is_not_there_is_named(extra):
    (name,) = extra
    with pytest.raises(KlingAccessError, match=rf"the extra's '{name}' names '/no/such', which is not there"):
        verification(settings(extra))


async def test_a_context_verifies_as_the_connection_says_and_is_built_once(tmp_path):
    usual = await tls_context(settings())
    assert usual.verify_mode is ssl.CERT_REQUIRED
    assert usual.check_hostname
    assert await tls_context(settings({"X-Other": "1"})) is usual
    careless = await tls_context(settings({"verify": False}))
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)
    folder = await tls_context(settings({"verify": str(tmp_path)}))
    assert folder.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("form", "paths"),
    [("/a, s3://b ,", ("/a", "s3://b")), (["/a"], ("/a",)), ([], ()), ("", ()), (None, ())],
)
def test_allowed_folders_are_a_list_or_a_text(form, paths):
    assert settings({"allowed_paths": form}).allowed_paths == paths
    for wrong in (7, [7], {"a": 1}):
        assert f"allowed_paths={wrong!r}" in refusal({"allowed_paths": wrong})


async def test_a_client_certificate_is_loaded(certificate):
    assert (await tls_context(settings({"cert": certificate}))).verify_mode is ssl.CERT_REQUIRED


def test_limits_are_amounts_or_none():
    assert (settings().max_cost_usd, settings().max_run_cost_usd) == (None, None)
    read = settings({"max_cost_usd": 1.5, "max_run_cost_usd": "20"})
    assert (read.max_cost_usd, read.max_run_cost_usd) == (Decimal("1.5"), Decimal(20))
    for name in ("max_cost_usd", "max_run_cost_usd"):
        assert f"{name}='much' must be a number of US dollars" in refusal({name: "much"})


@pytest.mark.parametrize("conn_type", ["kling", "http", "generic", "", None, "Kling"])
def test_a_type_that_may_hold_a_key_is_accepted(conn_type):
    assert settings(conn_type=conn_type).api_key == KEY


@pytest.mark.parametrize("conn_type", ["postgres", "aws", "https", "klingon"])
def test_the_password_of_another_system_is_not_taken_for_a_key(conn_type):
    words = refusal(conn_type=conn_type)
    assert f"its type is {conn_type!r}" in words
    assert KEY not in words


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "http://0xa9fea9fe", "http://[fe80::1]", "100.100.100.200"]
)
def test_no_gateway_stands_where_clouds_keep_credentials(host):
    assert "keep credentials" in refusal(host=host)


def test_the_redactor_knows_all_secrets_of_a_connection(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "me:of-the-environment@proxy.example:3128")
    proxies = {
        "https": "http://user:p%40ssw0rd@proxy.example:3128",
        "http": "http://only-a-token@proxy.example",
    }
    redactor = settings({"X-Token": "tok-1234", "X-Team": "eu", "proxies": proxies}).redactor
    said = f"{KEY} tok-1234 p@ssw0rd p%40ssw0rd only-a-token of-the-environment eu proxy.example"
    assert redactor.shown(said) == "*** *** *** *** *** *** eu proxy.example"


@pytest.mark.parametrize(
    ("header", "said", "shown"),
    [
        (
            "theme=dark; session=0123456789abcdef0123; lang=en",
            "session 0123456789abcdef0123 ended",
            "session *** ended",
        ),
        ("Bearer tok12345", "the token tok12345", "the token ***"),
        ("id=42,secret=AbCdEf0123456789,v=1", "42: AbCdEf0123456789", "42: ***"),
        ('Digest username="me", response="0123456789abcdef"', "no 0123456789abcdef", "no ***"),
        (f"Basic {b64encode(b'corp:Passw0rdLong').decode()}", "corp:Passw0rdLong", "***"),
        (f"basic {b64encode(b'corp:Passw0rd').decode()}", "corp has Passw0rd", "corp has ***"),
        (f"Basic {b64encode(bytes([0xE4, 0x3A]) + b'pass-0').decode()}", "pass-0 is old", "*** is old"),
        ("Basic a", "Basic: a", "Basic: a"),
    ],
)
def test_the_redactor_knows_the_secret_inside_a_headers_value(header, said, shown):
    assert settings({"X-Auth": header}).redactor.shown(said) == shown


@pytest.mark.parametrize(
    ("fields", "name", "url"),
    [
        ({}, "MyRouter", "https://api.myrouter.ai"),
        ({"host": "api.novita.ai"}, "MyRouter", "https://api.novita.ai"),
        ({"host": "http://127.0.0.1:8080"}, "MyRouter", "http://127.0.0.1:8080"),
        ({"extra": {"gateway": ""}}, "MyRouter", "https://api.myrouter.ai"),
        ({"extra": {"gateway": " Kling "}}, "Kling", "https://api-singapore.klingai.com"),
        ({"extra": {"gateway": "kling"}, "host": "beijing"}, "Kling", "https://api-beijing.klingai.com"),
        ({"extra": {"gateway": "kling"}, "host": "http://x:1"}, "Kling", "http://x:1"),
        ({"host": " Singapore "}, "Kling", "https://api-singapore.klingai.com"),
        ({"host": "beijing", "port": 443}, "Kling", "https://api-beijing.klingai.com:443"),
        ({"host": "API-Singapore.klingai.com:443"}, "Kling", "https://api-singapore.klingai.com:443"),
        ({"host": "https://api.klingai.com/x"}, "Kling", "https://api.klingai.com/x"),
        ({"host": "notklingai.com"}, "MyRouter", "https://notklingai.com"),
        ({"host": "klingai.com.example"}, "MyRouter", "https://klingai.com.example"),
        (
            {"extra": {"gateway": "myrouter"}, "host": "https://api.klingai.com"},
            *("MyRouter", "https://api.klingai.com"),
        ),
    ],
)
def test_the_dialect_is_named_or_follows_from_the_host(fields, name, url):
    read = settings(**fields)
    assert (read.gateway.name, read.base_url) == (name, url)
    assert read.default_model == read.gateway.default_model
    assert "gateway" not in read.headers


@pytest.mark.parametrize("wrong", ["klingon", 7, ["kling"], True])
def test_a_gateway_that_is_not_known_is_named_with_those_that_are(wrong):
    assert f"gateway={wrong!r} is not one of myrouter, kling" in refusal({"gateway": wrong})


def test_a_model_of_kling_is_named_with_its_operation_or_without():
    for model in ("text-to-video/kling-3.0", "kling-3.0"):
        assert settings({"default_model": model}, host="singapore").default_model == model
    assert "such as 'kling-3.0'" in refusal({"default_model": "a/b/c"}, host="singapore")


@pytest.mark.parametrize(
    "fields",
    [{"login": "s3cretAK"}, {"password": "s3cretAK|s3cretSK"}, {"password": "eyJhbGci.eyJpc3Mi.s3cret-_"}],
)
def test_the_key_pair_of_the_legacy_design_is_refused_with_the_way_to_a_new_key(fields):
    words = refusal(host="singapore", **fields)
    assert "https://kling.ai/dev/api-key" in words
    assert "s3cret" not in words
    assert settings(**fields).gateway.name == "MyRouter"


def test_a_unit_of_a_pack_has_a_price():
    assert settings().unit_price_usd == Decimal("0.14")
    assert settings({"unit_price_usd": "0.098"}).unit_price_usd == Decimal("0.098")
    assert settings({"unit_price_usd": 0}).unit_price_usd == 0
    assert "unit_price_usd=-1 must be a number of US dollars" in refusal({"unit_price_usd": -1})
