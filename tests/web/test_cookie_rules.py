"""The rules for a SessionCookie, its value in the browser, and the stability of its signature over the years."""

from http.cookies import SimpleCookie
from typing import Any

import pytest
from aiohttp import DummyCookieJar, web
from pytest_aiohttp import AiohttpClient

from aiohttp_session_store import (
    ConfigurationError,
    CookieStorage,
    MemoryStorage,
    SessionCookie,
    SessionStorage,
    SessionUsageError,
    get_session,
    setup,
)
from aiohttp_session_store.session.session import state_of
from aiohttp_session_store.testing import ManualClock

SECRET = "known-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
OTHER = "other-secret-0123456789-abcdefghijklmnopqrstuvwxyz"
DAY = 86400

# Computed independently, with hmac, hashlib and base64.  Browsers have such cookies, so an edit here would log
# everybody out.
KNOWN_ID = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq"
SEALED_ID = KNOWN_ID + ".8zV2IKLzM-AGU-bZwM4Ox6diOUMOiRnTJgQewMBakUY"
KNOWN_DATA = (
    "MTcwMDAwMTgwMCBhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5emFiY2RlZmdoaWprbG1ub3BxCjEgTCAxNzAwMDAwMDAwIDE3MDAwMDAwMDAgMTgwMA"
    "p7InVzZXIiOiJhZGEifQ"
)
SEALED_DATA = KNOWN_DATA + ".Nw4X019trsUTRBE9gvF2kKwL41UeX3DngEhS1wlgGp0"


def app_with(storage: SessionStorage, cookie: SessionCookie) -> web.Application:
    async def write(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "ada"
        return web.Response()

    async def show(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request)))

    async def leave(request: web.Request) -> web.Response:
        (await get_session(request)).destroy()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/write", write), web.get("/show", show), web.get("/leave", leave)])
    setup(app, storage, cookie=cookie)
    return app


async def set_cookie(client: Any, path: str, sent: str = "", name: str = "session", **headers: str) -> str | None:
    """Request *path* with the cookie value *sent*; return the Set-Cookie header of the response."""
    if sent:
        headers["Cookie"] = f"{name}={sent}"
    async with client.get(path, headers=headers) as response:
        assert response.status == 200
        found: list[str] = response.headers.getall("Set-Cookie", [])
        assert len(found) < 2
        return found[0] if found else None


def value_of(header: str | None) -> str:
    assert header is not None
    return next(iter(SimpleCookie(header).values())).value


# --- rules of the constructor


@pytest.mark.parametrize(
    "prefix", ["__Secure-", "__Host-", "__Http-", "__Host-Http-", "__host-", "__SECURE-", "__hTTp-"]
)
@pytest.mark.parametrize("secure", [None, False])
def test_every_prefix_needs_an_explicit_secure(prefix: str, secure: bool | None) -> None:
    with pytest.raises(ConfigurationError, match="secure=True"):
        SessionCookie(prefix + "session", secure=secure)


@pytest.mark.parametrize("prefix", ["__Secure-", "__Host-", "__Http-", "__Host-Http-", "__HOST-"])
def test_every_prefix_works_with_secure_and_the_defaults(prefix: str) -> None:
    assert SessionCookie(prefix + "session", secure=True).name == prefix + "session"


@pytest.mark.parametrize("prefix", ["__Host-", "__host-", "__HOST-", "__Host-Http-", "__host-HTTP-"])
@pytest.mark.parametrize("wrong", [{"path": "/app"}, {"domain": "example.com"}])
def test_a_host_prefix_needs_the_root_path_and_no_domain(prefix: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match='path is "/" and domain None'):
        SessionCookie(prefix + "session", secure=True, **wrong)


@pytest.mark.parametrize("prefix", ["__Secure-", "__Http-", "__http-"])
def test_the_other_prefixes_allow_path_and_domain(prefix: str) -> None:
    assert SessionCookie(prefix + "session", secure=True, path="/app", domain="example.com").path == "/app"


@pytest.mark.parametrize("prefix", ["__Http-", "__http-", "__HTTP-", "__Host-Http-", "__host-http-"])
def test_an_http_prefix_needs_httponly(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="httponly=True"):
        SessionCookie(prefix + "session", secure=True, httponly=False)


@pytest.mark.parametrize("setting", [{"samesite": "None"}, {"samesite": "none"}, {"partitioned": True}])
@pytest.mark.parametrize("secure", [None, False])
def test_samesite_none_and_partitioned_need_secure(setting: dict[str, Any], secure: bool | None) -> None:
    with pytest.raises(ConfigurationError, match="secure=True"):
        SessionCookie(secure=secure, **setting)


@pytest.mark.parametrize("samesite", ["", "Loose", "Lax; Secure", 5, True])
def test_an_unknown_samesite_is_refused(samesite: Any) -> None:
    with pytest.raises(ConfigurationError, match="samesite is"):
        SessionCookie(samesite=samesite)


@pytest.mark.parametrize("bad", ["\x00", "\x1f", "\r\n", "\t", "\x7f", ";", "é", "\x85", "\u2028"])
@pytest.mark.parametrize("where", ["a{}b", "ab{}", "{}ab"])
def test_control_characters_and_semicolons_are_refused(bad: str, where: str) -> None:
    text = where.format(bad)
    for parts in ({"name": text}, {"path": "/" + text}, {"domain": text}):
        with pytest.raises(ConfigurationError):
            SessionCookie(**parts)  # type: ignore[arg-type]


def test_an_attribute_longer_than_browsers_accept_is_refused() -> None:
    """Browsers ignore a longer attribute, and would send the cookie where it is not meant to go (RFC 6265bis, 5.6)."""
    SessionCookie(path="/" + "a" * 1023)
    with pytest.raises(ConfigurationError, match="1024"):
        SessionCookie(path="/" + "a" * 1024)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a=b", "a,b", 'a"b', "a/b", "a(b", "[a]", "{a}", "a@b", "a\\b", 5, None]
)
def test_a_name_that_is_not_a_token_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="cookie name"):
        SessionCookie(name)


@pytest.mark.parametrize("old", [False, True])
def test_a_secret_in_the_place_of_the_name_is_not_shown(old: bool) -> None:
    secret = "c2VzYW1lLW9wZW4tc2VzYW1lLW9wZW4tc2VzYW1l/w=="

    with pytest.raises(ConfigurationError, match=r"has '/'.*write SessionCookie\(secrets=") as caught:
        SessionCookie(old_names=[secret]) if old else SessionCookie(secret)

    assert secret[:8] not in str(caught.value)


@pytest.mark.parametrize("path", ["", "app", "./", None, 5])
def test_a_path_without_a_leading_slash_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="cookie path"):
        SessionCookie(path=path)


REFUSED_DOMAINS: list[tuple[Any, str]] = [
    (5, "of type int"),
    (b"example.org", "of type bytes"),
    (["example.org"], "of type list"),
    ("", "is empty"),
    (" ", "is empty"),
    ("https://example.org", "is a URL"),
    ("//example.org", "is a URL"),
    ("example.org/", "is a URL"),
    ("ada@example.org", "is a URL"),
    ("example.org:8080", "has a port"),
    ("localhost:8080", "has a port"),
    ("*.example.org", "has a star"),
    ("*", "has a star"),
    (".example.org", "begins or ends with a dot"),
    ("example.org.", "begins or ends with a dot"),
    (".", "begins or ends with a dot"),
    ("example..org", "between single dots"),
    ("exam ple.org", "between single dots"),
    (" example.org", "between single dots"),
    ("example.org ", "between single dots"),
    ("example,org.net", "between single dots"),
    ("a" * 64 + ".org", "1 to 63"),
    ("abc." * 63 + "example", "at most 253"),
    ("bücher.example", "xn--"),
    ("127.0.0.1", "an IP address"),
    ("192.168.1.5", "an IP address"),
    ("10.0.0.1:80", "has a port"),
    ("[::1]", "an IP address"),
    ("::1", "an IP address"),
    ("2001:db8::1", "an IP address"),
    ("0x7f.1", "an IP address"),
    ("example.1", "an IP address"),
    ("localhost", "has no dot"),
    ("org", "has no dot"),
    ("intranet", "has no dot"),
]


@pytest.mark.parametrize(("domain", "fault"), REFUSED_DOMAINS)
def test_a_domain_for_which_browsers_drop_the_cookie_is_refused(domain: Any, fault: str) -> None:
    with pytest.raises(ConfigurationError, match="a cookie domain must be a") as caught:
        SessionCookie(domain=domain)
    assert fault in str(caught.value)


def test_the_message_about_a_domain_does_not_repeat_a_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionCookie(domain="https://ada:lovelace@example.org")
    assert "lovelace" not in str(caught.value)


@pytest.mark.parametrize(
    "domain",
    [
        "example.org",
        "a.b.example.org",
        "EXAMPLE.ORG",
        "co.uk",
        "xn--bcher-kva.example",
        "my_app.example.org",
        "1.example",
        "a" * 63 + ".org",
        "x-y.example.org",
        "app.localhost",
        "0xample.com",
    ],
)
def test_any_other_domain_is_accepted(domain: str) -> None:
    """That nobody can have cookies for co.uk is in a list that the library does not have."""
    assert SessionCookie(domain=domain).domain == domain


@pytest.mark.parametrize("flag", ["secure", "httponly", "partitioned", "persistent"])
@pytest.mark.parametrize("value", ["false", "true", "", 0, 1, 0.0, [], b"no"])
def test_a_flag_that_is_no_bool_is_refused(flag: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{flag} must be True or False, not of type {type(value).__name__}"):
        SessionCookie(**{flag: value})


def test_only_secure_can_be_none() -> None:
    assert SessionCookie(secure=None).secure is None
    for flag in ("httponly", "partitioned", "persistent"):
        with pytest.raises(ConfigurationError, match="NoneType"):
            SessionCookie(**{flag: None})  # type: ignore[arg-type]


def test_httponly_false_warns_at_the_line_that_creates_the_cookie() -> None:
    with pytest.warns(UserWarning, match="steal the session") as caught:
        SessionCookie(httponly=False)
    assert caught[0].filename == __file__


# --- secrets


@pytest.mark.parametrize(
    "secrets",
    ["", "short", "x" * 30 + "y", "a" * 40, b"\x00" * 40, b"0123456789", [], (), [SECRET, "short"], ["short", SECRET]],
)
def test_a_weak_secret_is_refused_and_not_shown_in_the_message(secrets: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionCookie(secrets=secrets)
    assert not any(part in str(caught.value) for part in ("short", "xxx", "aaa", SECRET))


@pytest.mark.parametrize("secrets", [5, 5.0, True, [5], [None], [SECRET, 5], bytearray(b"0123456789" * 4), object()])
def test_a_secret_of_the_wrong_type_is_refused(secrets: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret is a str or bytes"):
        SessionCookie(secrets=secrets)


@pytest.mark.parametrize("secrets", ["a" * 31 + "b", b"a" * 31 + b"b", (SECRET, b"b" + b"a" * 31)])
def test_thirty_two_characters_or_bytes_are_enough(secrets: Any) -> None:
    cookie = SessionCookie(secrets=secrets).bind(MemoryStorage())
    assert cookie.open(cookie.seal(KNOWN_ID)) == KNOWN_ID


def test_setup_refuses_cookie_storage_without_secrets_and_says_how_to_make_one() -> None:
    with pytest.raises(ConfigurationError, match=r"SessionCookie\(secrets=\.\.\.\).*secrets\.token_urlsafe\(32\)"):
        setup(web.Application(), CookieStorage())


def test_the_repr_shows_the_name_and_no_secret() -> None:
    cookie = SessionCookie("named", secrets=[SECRET, OTHER])
    assert repr(cookie) == "<SessionCookie named>"
    assert repr(cookie.bind(MemoryStorage())) == repr(cookie)


# --- the signature


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()])
def test_the_sealed_form_of_an_id_does_not_change(secret: str | bytes) -> None:
    cookie = SessionCookie(secrets=secret).bind(MemoryStorage())
    assert cookie.seal(KNOWN_ID) == SEALED_ID
    assert cookie.open(SEALED_ID) == KNOWN_ID


async def test_the_sealed_form_of_a_data_cookie_does_not_change() -> None:
    storage = CookieStorage(idle_timeout=1800, lifetime=DAY, clock=ManualClock(1_700_000_000))
    session = await storage.read(None)
    state_of(session).id = KNOWN_ID
    session["user"] = "ada"
    value = await storage.save(session)
    assert value == KNOWN_DATA
    assert SessionCookie(secrets=SECRET).bind(storage).seal(value) == SEALED_DATA


async def test_an_existing_data_cookie_can_be_read() -> None:
    storage = CookieStorage(idle_timeout=1800, lifetime=DAY, clock=ManualClock(1_700_000_000))
    session = await storage.read(SessionCookie(secrets=SECRET).bind(storage).open(SEALED_DATA))
    assert (dict(session), session.id, session.new) == ({"user": "ada"}, KNOWN_ID, False)


@pytest.mark.parametrize("more", ["%^&", "=", "==", "\n", " ", "A", ".", "-"])
def test_nothing_can_be_added_to_a_signature(more: str) -> None:
    """Base64 skips foreign characters, so a decoded signature would still be right."""
    assert SessionCookie(secrets=SECRET).bind(MemoryStorage()).open(SEALED_ID + more) is None


def test_only_one_text_of_a_signature_opens() -> None:
    """The last of 43 characters of base64 has two bits that decoding drops."""
    cookie = SessionCookie(secrets=[OTHER, SECRET]).bind(MemoryStorage())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [last for last in alphabet if cookie.open(SEALED_ID[:-1] + last)] == [SEALED_ID[-1]]


def test_sealing_without_a_storage_says_what_to_call() -> None:
    with pytest.raises(SessionUsageError, match=r"cookie\.bind\(storage\)"):
        SessionCookie(secrets=SECRET).seal(KNOWN_ID)


def test_opening_without_a_storage_says_what_to_call() -> None:
    with pytest.raises(SessionUsageError, match=r"cookie\.bind\(storage\)"):
        SessionCookie(secrets=SECRET).open(SEALED_ID)


def test_binding_does_not_change_the_cookie_object() -> None:
    cookie = SessionCookie(secrets=SECRET)
    cookie.bind(MemoryStorage())
    with pytest.raises(SessionUsageError):
        cookie.seal(KNOWN_ID)


def test_a_cookie_with_another_name_does_not_open() -> None:
    assert SessionCookie("other", secrets=SECRET).bind(MemoryStorage()).open(SEALED_ID) is None


def test_a_cookie_for_another_kind_of_storage_does_not_open() -> None:
    assert SessionCookie(secrets=SECRET).bind(CookieStorage()).open(SEALED_ID) is None


def test_a_cookie_signed_with_another_secret_does_not_open() -> None:
    assert SessionCookie(secrets=OTHER).bind(MemoryStorage()).open(SEALED_ID) is None


# --- the salt


def test_two_apps_with_one_secret_and_name_but_another_salt_do_not_open_each_others_cookies() -> None:
    shop, blog, none = (SessionCookie(secrets=SECRET, salt=salt).bind(CookieStorage()) for salt in ("shop", "blog", ""))
    assert shop.open(shop.seal(KNOWN_DATA)) == KNOWN_DATA
    assert [cookie.open(shop.seal(KNOWN_DATA)) for cookie in (blog, none)] == [None, None]
    assert shop.open(none.seal(KNOWN_DATA)) is None


def test_a_name_and_a_salt_are_not_taken_for_another_name() -> None:
    salted = SessionCookie("session", secrets=SECRET, salt="shop").bind(MemoryStorage())
    for name in ("session.shop", "sessionshop", "session-shop"):
        assert SessionCookie(name, secrets=SECRET).bind(MemoryStorage()).open(salted.seal(KNOWN_ID)) is None


def test_the_sealed_form_with_a_salt_does_not_change() -> None:
    sealed = KNOWN_ID + ".bUj27RS1MNffoXGsYccalbFjmYU-bHx8H6iRlxXmvLY"
    assert SessionCookie(secrets=SECRET, salt="shop").bind(MemoryStorage()).seal(KNOWN_ID) == sealed


@pytest.mark.parametrize("salt", [None, 5, b"shop", ["shop"]])
def test_a_salt_that_is_no_string_is_refused(salt: Any) -> None:
    with pytest.raises(ConfigurationError, match='salt must be a string such as "shop"'):
        SessionCookie(salt=salt)


# --- rotation of secrets over HTTP


@pytest.fixture(params=[MemoryStorage, CookieStorage])
def storage(request: pytest.FixtureRequest) -> SessionStorage:
    made: SessionStorage = request.param()
    return made


async def client_of(aiohttp_client: AiohttpClient, storage: SessionStorage, cookie: SessionCookie) -> Any:
    return await aiohttp_client(app_with(storage, cookie), cookie_jar=DummyCookieJar())


async def test_a_cookie_signed_with_an_old_secret_is_signed_again_once_at_the_next_load(
    aiohttp_client: AiohttpClient, storage: SessionStorage
) -> None:
    before = await client_of(aiohttp_client, storage, SessionCookie(secrets=SECRET))
    after = await client_of(aiohttp_client, storage, SessionCookie(secrets=[OTHER, SECRET]))
    old = value_of(await set_cookie(before, "/write"))
    renewed = value_of(await set_cookie(after, "/show", old))
    assert renewed.rpartition(".")[0] == old.rpartition(".")[0]
    assert SessionCookie(secrets=OTHER).bind(storage).open(renewed) == old.rpartition(".")[0]
    assert await set_cookie(after, "/show", renewed) is None


async def test_a_cookie_signed_with_an_old_secret_opens_its_session(
    aiohttp_client: AiohttpClient, storage: SessionStorage
) -> None:
    before = await client_of(aiohttp_client, storage, SessionCookie(secrets=SECRET))
    after = await client_of(aiohttp_client, storage, SessionCookie(secrets=[OTHER, SECRET]))
    old = value_of(await set_cookie(before, "/write"))
    async with after.get("/show", headers={"Cookie": f"session={old}"}) as response:
        assert await response.json() == {"user": "ada"}


async def test_a_cookie_whose_secret_is_no_longer_listed_opens_nothing(
    aiohttp_client: AiohttpClient, storage: SessionStorage
) -> None:
    before = await client_of(aiohttp_client, storage, SessionCookie(secrets=SECRET))
    after = await client_of(aiohttp_client, storage, SessionCookie(secrets=OTHER))
    old = value_of(await set_cookie(before, "/write"))
    async with after.get("/show", headers={"Cookie": f"session={old}"}) as response:
        assert (response.status, await response.json()) == (200, {})
        assert "Set-Cookie" not in response.headers


async def test_a_logout_clears_a_cookie_signed_with_an_old_secret(
    aiohttp_client: AiohttpClient, storage: SessionStorage
) -> None:
    before = await client_of(aiohttp_client, storage, SessionCookie(secrets=SECRET))
    after = await client_of(aiohttp_client, storage, SessionCookie(secrets=[OTHER, SECRET]))
    old = value_of(await set_cookie(before, "/write"))
    header = await set_cookie(after, "/leave", old)
    assert header is not None
    assert header.startswith("session=; Max-Age=0; ")
