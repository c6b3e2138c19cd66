"""The two endpoints that the browser calls by itself: registration of a key, and refresh of the bound cookie.

What a browser makes of a status is measured, and differs from the draft: a 403 with a challenge lets it sign again, a
5xx lets it try later, and any other 4xx, also a 429, lets it forget the session.  So a bad proof of a session that
lives is answered 403 with a challenge, whatever is bad about it, and what we cannot know is answered 503.  If an answer
is lost, the browser sends the very same proof again.  At a registration it does not sign again after a 403.

References:
    W3C Device Bound Session Credentials, draft of 2026-02-17.
"""

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from yarl import URL

from ..errors import StorageError
from ..record.head import Head, owner_key
from ..session.session import state_of
from ..session.state import Place
from ..storages.base import KeyedStorage
from ..tracebacks import hides_locals
from ..web.app_sessions import AppSessions
from ..web.arriving import find_session
from ..web.csrf import csrf_exempt
from .binding import NOTE, Binding, binding_of, bound_first, new_by, taken
from .proofs import BadProofError, Proof, read_proof
from .tokens import Tokens

_RESPONSE = "Secure-Session-Response"
_CHALLENGE = "Secure-Session-Challenge"
_ID = "Sec-Secure-Session-Id"


class Endpoints:
    """The two endpoints of one app."""

    def __init__(
        self, sessions: AppSessions, storage: KeyedStorage, tokens: Tokens, cookie_name: str, exclude: Sequence[str]
    ) -> None:
        """Serve the sessions of an app."""
        self._sessions = sessions
        self._storage = storage
        self._tokens = tokens
        self._cookie_name = cookie_name
        self._exclude = exclude
        self._resources: list[web.AbstractResource] = []

    def add_to(self, app: web.Application, path: str) -> None:
        """Add the routes to *app*, below *path*."""
        for name, handler in (("register", self.register), ("refresh", self.refresh)):
            resource = app.router.add_resource(f"{path}/{name}")
            resource.add_route("POST", handler)
            self._resources.append(resource)

    @property
    def paths(self) -> list[str]:
        """The paths of registration and refresh as handlers see them, with the prefix of a sub-app."""
        return [resource.canonical for resource in self._resources]

    def offer(self, head: Head, origin: str) -> str:
        """Return the header that asks the browser to make a key for a login."""
        challenge = self._tokens.registration_challenge(head, origin, self._storage.now())
        return f'(ES256);path="{_in_ascii(self.paths[0])}";challenge="{challenge}"'

    # --- registration

    @csrf_exempt
    @hides_locals
    async def register(self, request: web.Request) -> web.Response:
        """Bind the login that the challenge was made for to the key that the browser has made."""
        try:
            proof = read_proof(request.headers.get(_RESPONSE, ""))
        except BadProofError as error:
            return _refused(400, f"{error}")
        place = await self._login_of(request, proof.challenge)
        head = None if place is None else place.record.head
        if place is None or head is None:
            return _refused(401, "nobody is logged in")
        binding, now, origin = binding_of(head), self._storage.now(), origin_of(request)
        is_own = self._tokens.answers_login(proof.challenge, head, origin, now)
        if binding is not None:
            if binding.key != proof.key:
                return _refused(400, "the login is bound to another key")
            # The answer was lost, and the same proof comes again. It counts until the browser has refreshed once.
            again = is_own and binding.turn == 0
            return (
                self._answered(place, binding, origin) if again else await self._proved(place, binding, proof, origin)
            )
        if not is_own:
            return _refused(400, "the challenge is not that of the login, or too old")
        wanted = Binding(self._tokens.identifier(head), proof.key, now)
        bound = await self._bound(place, wanted)
        binding = None if bound is None else binding_of(bound.record.head)
        if bound is None or binding is None:
            return _refused(401, "the session has ended")
        if binding.key != proof.key:  # that of a parallel request
            return _refused(400, "the login is bound to another key")
        return self._answered(bound, binding, origin)

    async def _login_of(self, request: web.Request, challenge: str) -> Place | None:
        """Return where the session stands that *challenge* was made for, or else the one that the request came with.

        The browser calls without the session cookie if a page of another site has led to the login, as with OAuth.

        Raises:
            StorageError: The storage failed, so that nobody knows whether the session has ended.
        """
        place = await self._came_with(request)
        login = self._tokens.login_asked(challenge)
        head = None if place is None else place.record.head
        if login is None or (head is not None and (owner_key(head.owner), head.line) == login):
            return place
        return await self._storage.find_login(*login)

    async def _came_with(self, request: web.Request) -> Place | None:
        arrival = await find_session(self._sessions, request.headers, headers_sent=True)  # no session cookie is sent
        return state_of(arrival.session).place

    async def _bound(self, place: Place, wanted: Binding) -> Place | None:
        """Bind a login, and ask again if the answer of the storage is lost: the browser registers only once."""
        try:
            return await self._storage.note(place, NOTE, bound_first(wanted))
        except StorageError as error:
            if not error.maybe_stored:
                raise
        return await self._storage.note(place, NOTE, bound_first(wanted))

    # --- refresh

    @csrf_exempt
    @hides_locals
    async def refresh(self, request: web.Request) -> web.Response:
        """Send a new bound cookie to a browser that proves that it has the key."""
        identifier = _unquoted(request.headers.get(_ID, ""))
        place = await self._find(request, identifier)
        binding = None if place is None else binding_of(place.record.head)
        if place is None or binding is None:
            return _refused(401, "there is no such session")
        origin = origin_of(request)
        try:
            proof = read_proof(request.headers.get(_RESPONSE, ""), binding.key)
        except BadProofError:
            return self._challenged(place, binding, origin)
        return await self._proved(place, binding, proof, origin)

    async def _find(self, request: web.Request, identifier: str) -> Place | None:
        """Return where the session of *identifier* stands.

        The browser calls without the session cookie if a page of another site has led to the refresh.

        Raises:
            StorageError: The storage failed, so that nobody knows whether the session has ended.
        """
        place = await self._came_with(request)
        if not _is_of(place, identifier):
            login = self._tokens.login_in(identifier)
            place = None if login is None else await self._storage.find_login(*login)
        return place if _is_of(place, identifier) else None

    async def _proved(self, place: Place, binding: Binding, proof: Proof, origin: str) -> web.Response:
        """Answer a proof whose signature is right, for a session that is bound."""
        head = place.record.head
        if head is None or not self._tokens.answers_turn(proof.challenge, head, binding, origin, self._storage.now()):
            return self._challenged(place, binding, origin)
        by = new_by()
        now_at = await self._storage.note(place, NOTE, taken(binding.turn, by))
        newest = None if now_at is None else binding_of(now_at.record.head)
        if now_at is None or newest is None:
            return _refused(401, "the session has ended")
        if newest.by != by:
            return self._challenged(now_at, newest, origin)
        return self._answered(now_at, newest, origin)

    # --- answers

    def _challenged(self, place: Place, binding: Binding, origin: str) -> web.Response:
        return web.json_response(
            {"error": "sign the challenge"}, status=403, headers=self._headers(place, binding, origin)
        )

    def _answered(self, place: Place, binding: Binding, origin: str) -> web.Response:
        headers = self._headers(place, binding, origin)
        if place.record.head is not None:
            headers["Set-Cookie"] = self._tokens.set_cookie(place.record.head, binding, self._storage.now())
        excluded = [{"type": "exclude", "domain": "*", "path": _in_ascii(path)} for path in self._exclude]
        config: dict[str, Any] = {
            "session_identifier": binding.id,
            "refresh_url": _in_ascii(self.paths[1]),
            "scope": {"origin": origin, "include_site": False, "scope_specification": excluded},
            "credentials": [{"type": "cookie", "name": self._cookie_name, "attributes": self._tokens.attributes}],
            "allowed_refresh_initiators": ["*"],
        }
        return web.json_response(config, headers=headers)

    def _headers(self, place: Place, binding: Binding, origin: str) -> dict[str, str]:
        headers = {"Cache-Control": "no-store"}
        if place.record.head is not None:
            challenge = self._tokens.challenge(place.record.head, binding, origin, self._storage.now())
            headers[_CHALLENGE] = f'"{challenge}";id="{binding.id}"'
        return headers


def origin_of(request: web.Request) -> str:
    """Return the origin that the browser sees.  Bound sessions need HTTPS."""
    return f"https://{request.host.lower().removesuffix(':443')}"


def _in_ascii(path: str) -> str:
    """Return *path* as browsers send it.  They take no other text in a structured header."""
    return URL.build(path=path).raw_path


def _is_of(place: Place | None, identifier: str) -> bool:
    binding = None if place is None else binding_of(place.record.head)
    return binding is not None and binding.id == identifier


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _refused(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status, headers={"Cache-Control": "no-store"})
