"""The systemd unit of a target: engine and proxy come back after a reboot, and what dies in between is started again.

One unit, which runs `slipway-target watch` (agent/watch.py). It works for root (`/etc/systemd/system`) and for a login
that lingers (`~/.config/systemd/user`).

`KillMode=process`: the engine and the proxy that the watch started go on when the unit is stopped or the file renewed;
`slipway stop TARGET` is what ends them. `After` names what may run engines: units that a machine lacks are passed over.
"""

from __future__ import annotations

import re

from slipway.errors import ConfigError

PYTHON, ROOT = "{python}", "{root}"  # replaced on the target, where they are known

_TEXT = """\
[Unit]
Description=Slipway target {name}: its engine and proxy
After=docker.service nvidia-persistenced.service

[Service]
Type=exec
ExecStart={python} -I -S {root}/slipway-target --root {root} watch
Restart=always
RestartSec=2
KillMode=process
SyslogIdentifier=slipway-{name}

[Install]
WantedBy=default.target
"""


def units(name: str) -> dict[str, str]:
    """Unit's file name -> text, with `{root}` and `{python}` to be replaced, for the target of this name.

    Raises ConfigError for a name that no unit can have.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", name):
        raise ConfigError("target", name, "small letters, digits and `-`", "choose another deploy.target")
    return {f"slipway-{name}.service": _TEXT.replace("{name}", name)}
