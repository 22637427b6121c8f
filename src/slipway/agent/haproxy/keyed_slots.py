"""The part of HAProxy's file that sends each engine its own key: one section a slot, between backends and engine.

    backend `engine`, `held`, `mirror`: servers a, b --> listen `slot_a`, `slot_b` (a socket of the folder) --> engine

Which engine gets a request is known only when a server was chosen, and for one that waits in `held` only at its end:
headers are written before that. So the servers `a` and `b` lead to a section of this very process, which knows its
engine, writes the header `Authorization` in place of the client's, and connects. Addresses move there, and keys lie in
the map file `engine.keys` (mode 600, one line a slot), which the admin socket changes as it changes addresses: a slot
gets address and key while nothing is sent to it.

Engines may speak TLS, each or not: the admin socket says which. Its certificate is checked against `engine_ca`.

An engine that refuses the connection is a 503 of the section, which backend `engine` tries again, on the other engine
where there is one: nothing was sent. Such a second try needs the whole request in one buffer (16 kB), which is why the
backend waits for it; a longer one is tried twice in its own section only.
"""

from __future__ import annotations

from collections.abc import Mapping

KEYS = "engine.keys"
NO_KEY = "none"
_TRIES = 1


def section_text(slot: str, server_line: str, error_line: str, ca_file: str) -> str:
    """The section of a slot. `error_line`: what answers when its engine refuses the connection; `ca_file`: quoted, of
    what signed the engines that speak TLS, `''` for none."""
    tls = "" if ca_file == "''" else f"    default-server ssl verify required ca-file {ca_file}\n"
    key = f"str({slot}),map_str({KEYS},{NO_KEY})"
    return f"""\
listen slot_{slot}
    bind unix@slot_{slot}.sock mode 600
    acl keyless {key} -m str {NO_KEY}
    http-request set-header Authorization "Bearer %[{key}]" if !keyless
    retry-on conn-failure
    retries {_TRIES}
{error_line}
{tls}{server_line}
"""


def keys_text(keys: Mapping[str, str]) -> str:
    """The map file: slot -> key, empty for an engine without one."""
    return "".join(f"{slot} {key or NO_KEY}\n" for slot, key in keys.items())
