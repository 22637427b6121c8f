"""The parts of a target, for whoever looks at it and for whoever changes it. Short because a look needs no more."""

from __future__ import annotations

from functools import cached_property

from slipway.agent.engines import Engines
from slipway.agent.journal import Journal
from slipway.agent.paths import TargetPaths
from slipway.agent.releases import Releases
from slipway.agent.settings import Settings, read_settings
from slipway.agent.switching import Switcher, switcher_for


class Parts:
    """What a transaction moves: the parts of one target under its settings."""

    def __init__(self, paths: TargetPaths, settings: Settings) -> None:
        self.paths, self.settings = paths, settings
        self.releases, self.journal = Releases(paths), Journal(paths.journal)
        self.engines: Engines = _engines(paths, settings)

    @cached_property
    def switcher(self) -> Switcher:
        """What stands before the engines. Raises, when it is first needed, what `switcher_for` raises: a proxy that
        cannot be keeps nobody from ending the engines."""
        return switcher_for(self.paths, self.settings)


def parts_of(paths: TargetPaths, settings: Settings | None = None) -> Parts:
    """The parts of a target. Raises StateError when its settings are damaged."""
    return Parts(paths, settings or read_settings(paths))


def _engines(paths: TargetPaths, settings: Settings) -> Engines:
    if not settings.slurm:
        return Engines(paths)
    from slipway.agent.slurm.engines import engines_for  # `slipway status` of a machine's own engines loads none of it

    return engines_for(paths, settings)
