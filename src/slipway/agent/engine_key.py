"""What an engine asks its callers for: a key, made where the engine starts, in a file that its owner alone may read;
and TLS, where it speaks it, by what signed its certificate.

What is handed on is the file's path, which is no secret; whoever asks the engine reads it. The file goes with its
engine: one that ended, or that a younger attempt replaced, leaves nothing to ask it with.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.records import read_text
from slipway.errors import StateError

if TYPE_CHECKING:
    import ssl

_NEXT = "`slipway stop TARGET`, then `slipway start TARGET`: an engine that starts makes a new one"


@dataclass(frozen=True)
class EngineAccess:
    """How an engine is asked: `key`, and `ca_file`, the path of what signed its certificate; empty for none."""

    key: str = field(default="", repr=False)
    ca_file: str = ""

    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def context(self) -> ssl.SSLContext | None:
        """TLS as it is spoken to the engine; null for plain HTTP. Names are not looked at: a node's address is in no
        certificate, and `ca_file` signs engines only. Raises StateError when that file holds no certificate."""
        if not self.ca_file:
            return None
        import ssl  # who asks over plain HTTP needs none of it

        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as err:  # ssl.SSLError is one
            value, step = (
                f"{self.ca_file}: {err.strerror or err}",
                "mend deploy.slurm.tls.ca, then start the target again",
            )
            raise StateError("TLS of an engine", value, "certificates, PEM", step) from err
        context.check_hostname = False
        return context


OPEN = EngineAccess()


def access_of(endpoint: Mapping[str, Any]) -> EngineAccess:
    """How the engine at an endpoint, as its target's agent gives it, is asked. Raises StateError as `read_key`."""
    return EngineAccess(read_key(endpoint.get("key_file", "")), endpoint.get("ca_file", ""))


def read_key(file: str) -> str:
    """The key in this file; empty for an engine that has none (no file named).

    Raises StateError, which never shows a key: the file is gone, others than its owner may read it, or it holds no key.
    """
    if not file:
        return ""
    thing = f"key of an engine: {file}"
    text = read_text(Path(file), "key of an engine", _NEXT).strip()
    mode = Path(file).stat().st_mode
    if mode & 0o077:
        raise StateError(thing, f"mode {stat.S_IMODE(mode):04o}", "a file that only its owner may read", _NEXT)
    if not re.fullmatch("[0-9a-f]{32,128}", text):
        raise StateError(thing, f"{len(text)} characters", "a key of hexadecimal digits", _NEXT)
    return text
