"""The config file of HAProxy, as text out of data: one address for clients, one engine behind it, at most one beside.

    frontend `endpoint` --> backend `engine`: servers a, b          as a rule
                        --> backend `held`:   servers wait, a, b    while `held/wait` is up
                        --> backend `mirror`: server tee; a, b      while `mirror/tee` is up

Two slots, `a` and `b`, hold the engine that serves and the one beside it. A switch is: the new one `ready`, then the
old one `drain`; the process stays, so no connection is closed.

`held` is for machines whose memory holds one engine only. `wait` is an address that refuses: HAProxy tries again once a
second (nothing was sent, so a POST is safe) and picks among the servers anew each time (`redispatch 1`), so a request
waits until an engine is ready, whichever that is, for at most `hold_limit_s`; then it gets 503 with Retry-After. In
`engine` three tries must do: a dead engine is an error at once, not after the hold limit.

`option http-server-close`: a connection to an engine carries one request. With kept ones an engine that closes idle
connections (uvicorn after 5 s) may meet the next POST on its way: with `http-reuse never` 8 of 384 were lost at an idle
limit of 0.25 s, none with this. `mirror` is there while a canary runs or prompts are captured: requests go through
`agent/canary/mirror.py`, which asks the champion. It is looked at twice a second and marked down at the first
connection that it refuses; then the champion, a `backup` there, gets the request and those that follow. Its check is a
request: one that hangs accepts too. What is in a mirror when it dies is lost with it, but for requests whose answer had
not begun.

One thread: a server's count of sessions is exact then, and one thread passes more tokens than any engine makes.
`noreuseport`: two proxies on one port would answer in turn; so the second does not start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

SOCKET = "admin.sock"
SLOTS = ("a", "b")
ENGINE_OF = {slot: f"slot_{slot}/engine" for slot in SLOTS}  # with `engine_keys`: where a slot's engine is
DOOR = ("-", 0)  # how HAProxy shows the address of a server that is a socket
REFUSING = ("127.0.0.1", 1)  # tcpmux, which nobody runs; TCP, for only an asynchronous refusal makes HAProxy wait 1 s
FULL_WEIGHT = 100
TRIES = 3
_MIRROR = " check inter 500ms fall 1 rise 2 observe layer4 error-limit 1 on-error mark-down"


@dataclass(frozen=True)
class ProxySettings:
    """What a person decides of the proxy; seconds where a name ends in `_s`.

    `key_digests`: sha256 (hex) of each accepted `Authorization` header; empty: no key is asked for. `tls_file`: the PEM
    file of certificate chain and key, empty for plain HTTP; `tls_digest` changes with its bytes. `command` starts
    HAProxy, in front of its own arguments. `answer_limit_s`: longest silence within an answer. `engine_keys`: engines
    may have keys of their own, which the proxy sends (`keyed_slots`); `engine_ca`: what signed theirs that speak TLS.
    """

    host: str
    port: int
    key_digests: tuple[str, ...] = ()
    tls_file: str = ""
    tls_digest: str = ""
    drain_limit_s: float = 600
    hold_limit_s: float = 900
    retry_after_s: int = 30
    answer_limit_s: float = 3600
    max_connections: int = 1000
    command: tuple[str, ...] = ("haproxy",)
    engine_keys: bool = False
    engine_ca: str = ""


@dataclass(frozen=True)
class Upstream:
    """An engine of a release and where it listens: `host` is an IP address. `key`: what it asks its callers for, empty
    for none; `tls`: whether it speaks TLS."""

    release: str
    host: str
    port: int
    key: str = field(default="", repr=False)
    tls: bool = False

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        return self.host, self.port


@dataclass(frozen=True)
class Routing:
    """Who gets requests. `champion` None: nobody serves. `share`: percent of requests that `candidate` gets, 0 to 100.

    `held`: requests wait; `champion` and `candidate` get none. `mirror`: (IP address, port) of the mirror that the
    champion's requests go through; the candidate gets none by HAProxy then.
    """

    champion: Upstream | None = None
    candidate: Upstream | None = None
    share: int = 0
    held: bool = False
    mirror: tuple[str, int] | None = None

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The engines it names."""
        return tuple(one for one in (self.champion, self.candidate) if one is not None)


@dataclass(frozen=True)
class ServerState:
    """A server of a backend as it should be: its address, its weight, and whether new requests go to it; `key`: what
    its engine is sent; `tls`: over TLS."""

    host: str
    port: int
    weight: int
    ready: bool
    release: str = field(default="", compare=False)
    key: str = field(default="", repr=False)
    tls: bool = False


def place(routing: Routing, occupied: Mapping[str, tuple[str, int]], in_use: Iterable[str] = ()) -> dict[str, Upstream]:
    """Slot -> engine, for the engines of `routing`: one that has a slot keeps it, a new one takes the other.

    `occupied`: slot -> (host, port) as it is; `in_use`: slots whose engine gets requests or answers some, taken last.
    """
    slots: dict[str, Upstream] = {}
    for upstream in routing.upstreams:
        own = [slot for slot in SLOTS if occupied.get(slot) == upstream.address and slot not in slots]
        if own:
            slots[own[0]] = upstream
    waiting = [upstream for upstream in routing.upstreams if upstream not in slots.values()]
    free = sorted((slot for slot in SLOTS if slot not in slots), key=lambda slot: slot in set(in_use))
    return slots | dict(zip(free, waiting, strict=False))


def server_states(
    routing: Routing, slots: Mapping[str, Upstream], *, engine_keys: bool = False
) -> dict[str, ServerState]:
    """`backend/server` -> its state, for every server of the file. With `engine_keys` the engines' own come first: an
    engine has its address and its key before anything leads to it."""
    passing = routing.mirror is not None and not routing.held
    states = _engines_of(slots) if engine_keys else {}
    states |= {
        "held/wait": ServerState(*REFUSING, 1, routing.held),
        "mirror/tee": ServerState(*(routing.mirror or REFUSING), 1, passing),
    }
    for slot in SLOTS:
        upstream = slots.get(slot)
        host, port = DOOR if engine_keys else upstream.address if upstream else REFUSING
        share = routing.share if upstream is not None and upstream == routing.candidate else 100 - routing.share
        ready = upstream is not None and share > 0 and not routing.held
        for backend in ("engine", "held", "mirror"):
            # `held` and `mirror` know the engines that are ready too: what waits there leaves to them when that ends
            weight = share if upstream is not None and share else FULL_WEIGHT
            states[f"{backend}/{slot}"] = ServerState(host, port, weight, ready, upstream.release if upstream else "")
    return states


def _engines_of(slots: Mapping[str, Upstream]) -> dict[str, ServerState]:
    """The server of each slot's own section."""
    states = {}
    for slot in SLOTS:
        one = slots.get(slot)
        ready = ServerState(*one.address, FULL_WEIGHT, True, one.release, one.key, one.tls) if one else None
        states[ENGINE_OF[slot]] = ready or ServerState(*REFUSING, FULL_WEIGHT, False)
    return states


def settings_digest(settings: ProxySettings) -> str:
    """16 hex digits that change with what a running HAProxy takes from its file only: everything but `server` lines.

    The process shows it as its description, so what it runs with can be asked of it.
    """
    return hashlib.sha256((_text(settings, "", {}) + settings.tls_digest).encode()).hexdigest()[:16]


def config_text(settings: ProxySettings, states: Mapping[str, ServerState]) -> str:
    """The whole file. `states`: see `server_states`."""
    return _text(settings, settings_digest(settings), states)


def _text(settings: ProxySettings, digest: str, states: Mapping[str, ServerState]) -> str:
    backends = [
        _backend("engine", TRIES, "no engine is ready", settings, states),
        _backend("held", ceil(settings.hold_limit_s), "the engine is being replaced", settings, states),
        _backend("mirror", TRIES, "no engine is ready", settings, states),
        *(_slot(slot, settings, states) for slot in SLOTS if settings.engine_keys),
    ]
    return _fixed(settings, digest) + "".join(backends)


def _fixed(settings: ProxySettings, digest: str) -> str:
    """Sections `global`, `defaults` and `frontend`."""
    answer, drain = ceil(settings.answer_limit_s), ceil(settings.drain_limit_s)
    most, clients = settings.max_connections, ""
    if settings.engine_keys:  # a request is a second connection within this process: clients must leave room for it
        most, clients = 2 * most, f"    maxconn {most}\n"
    tls = f" ssl crt {_quoted(settings.tls_file)} alpn http/1.1 ssl-min-ver TLSv1.2" if settings.tls_file else ""
    return f"""\
# Written by Slipway before every switch; what is changed here by hand is replaced.
global
    description slipway-{digest}
    stats socket unix@{SOCKET} mode 600 level admin expose-fd listeners
    maxconn {most}
    nbthread 1
    noreuseport
    hard-stop-after {drain}s
defaults
    mode http
    option http-server-close
    option http-no-delay
    option abortonclose
    timeout connect 2s
    timeout client {answer}s
    timeout server {answer}s
    timeout tunnel {answer}s
    timeout http-request 30s
    timeout http-keep-alive 3600s
frontend endpoint
    bind {_socket_address(settings.host, settings.port)}{tls}
{clients}{_key_rules(settings.key_digests)}    use_backend held if {{ srv_is_up(held/wait) }}
    use_backend mirror if {{ srv_is_up(mirror/tee) }}
    default_backend engine
"""


def _key_rules(digests: tuple[str, ...]) -> str:
    """Requests without a known key get 401; the key goes no further. Health is for everybody: it says nothing else."""
    if not digests:
        return ""
    body = _error("a valid API key is needed: Authorization: Bearer KEY", "invalid_request_error", "invalid_api_key")
    return f"""\
    acl key_known req.fhdr(authorization),sha2(256),hex -m str -i {" ".join(digests)}
    acl health path /health
    http-request return status 401 content-type application/json string {body} hdr WWW-Authenticate Bearer \
if !health !key_known
    http-request del-header authorization
"""


def _backend(name: str, tries: int, reason: str, settings: ProxySettings, states: Mapping[str, ServerState]) -> str:
    from slipway.agent.canary.http_messages import HEALTH  # which loads asyncio

    keyed = settings.engine_keys and name == "engine"
    retry_on = " empty-response" if name == "mirror" else " 503" if keyed else ""
    lines = [
        f"backend {name}",
        "    balance roundrobin",
        "    option redispatch 1",
        # an answer that the mirror had not begun is asked of the champion again: to write it twice harms nobody
        f"    retry-on conn-failure{retry_on}",
        f"    retries {tries}",
        *(["    option http-buffer-request"] if keyed else []),  # what is not whole yet is not sent a second time
        *(["    timeout check 1s", f"    option httpchk GET {HEALTH}"] if name == "mirror" else []),
        _not_ready(reason, settings),
    ]
    for full_name, state in states.items():
        backend, server = full_name.split("/")
        if backend == name:
            role = _MIRROR if full_name == "mirror/tee" else " backup" if name == "mirror" else ""
            lines.append(_server_line(server, state, role))
    return "\n".join(lines) + "\n"


def _slot(slot: str, settings: ProxySettings, states: Mapping[str, ServerState]) -> str:
    """A slot's own section; without its server for the digest, which no engine changes."""
    from slipway.agent.haproxy.keyed_slots import section_text  # a look writes no file

    state = states.get(ENGINE_OF[slot])
    plain = " no-ssl" if settings.engine_ca and state and not state.tls else ""
    line = _server_line("engine", state, plain) if state else ""
    return section_text(slot, line, _not_ready("no engine is ready", settings), _quoted(settings.engine_ca))


def _server_line(name: str, state: ServerState, role: str = "") -> str:
    is_door = (state.host, state.port) == DOOR
    address = f"unix@slot_{name}.sock" if is_door else _socket_address(state.host, state.port)
    disabled = role + ("" if state.ready else " disabled")
    release = f"  # {state.release}" if state.release else ""
    return f"    server {name} {address} weight {state.weight}{disabled}{release}"


def _not_ready(reason: str, settings: ProxySettings) -> str:
    error = _error(reason, "server_error", "engine_not_ready")
    retry = f"hdr Retry-After {settings.retry_after_s}"
    return f"    http-error status 503 content-type application/json string {error} {retry}"


def _error(message: str, kind: str, code: str) -> str:
    """An error in OpenAI's form, quoted for the file."""
    return f"""'{{"error":{{"message":"{message}","type":"{kind}","code":"{code}"}}}}'"""


def _socket_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _quoted(path: str) -> str:
    """A path as HAProxy reads it whole, whatever is in it."""
    return "'" + path.replace("'", "'\\''") + "'"
