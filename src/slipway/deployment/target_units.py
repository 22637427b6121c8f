"""The systemd unit of a target: after a boot it brings back what served, engine and proxy, of the same digests.

The agent's verb `boot` does the work and takes the lock as any change does; the unit only calls it once the machine is
up. Its processes live on in the unit's control group: stopping the unit ends them. A target of a login that is not root
has a user's unit, which lingering starts at boot.
"""

from __future__ import annotations

from collections.abc import Mapping

_UNIT = """\
[Unit]
Description=Slipway target {name}: the release that serves, its engine and its proxy
Wants=network-online.target
After=network-online.target docker.service podman.service
StartLimitIntervalSec=1h
StartLimitBurst=3

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={{python}} {{root}}/slipway-target --root {{root}} call boot
StandardInput=null
Restart=on-failure
RestartSec=30s
TimeoutStartSec=2h
KillMode=control-group
TimeoutStopSec=120s

[Install]
WantedBy={wanted_by}
"""


def units(name: str, as_root: bool) -> Mapping[str, str]:
    """The units of the target `name`, file name -> text; the set-up puts python and root in. `as_root`: of the machine
    instead of a user."""
    wanted_by = "multi-user.target" if as_root else "default.target"
    return {f"slipway-{name}.service": _UNIT.format(name=name, wanted_by=wanted_by)}
