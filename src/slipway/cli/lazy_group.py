"""Commands that are imported when they are asked for: a run of one command neither imports nor builds the others."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command_from_info
from typer.models import CommandInfo


@dataclass(frozen=True)
class CommandPlace:
    """Where a command's function is, and the example that its --help ends with.

    `place` is `module:function`, the module below `slipway.cli`.
    """

    place: str
    example: str

    @property
    def name(self) -> str:
        """The command's name on the command line."""
        return self.place.partition(":")[2].replace("_", "-")

    def function(self) -> Any:
        """The function, imported. Raises ModuleNotFoundError and AttributeError where it is not."""
        module, _, name = self.place.partition(":")
        return getattr(importlib.import_module(f"slipway.cli.{module}"), name)


class _Commands(MutableMapping[str, Any]):
    """Click's commands by name, each imported and built at its first use."""

    def __init__(self, places: Mapping[str, CommandPlace]) -> None:
        self._places, self._built = dict(places), dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            row = self._places[name]
            info = CommandInfo(name=name, callback=row.function(), epilog=f"Example: {row.example}")
            self._built[name] = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode="markdown")
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def lazy_group(places: tuple[CommandPlace, ...]) -> type[TyperGroup]:
    """The class of a group of these commands, in this order, for `typer.Typer(cls=...)`."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Commands({row.name: row for row in places})

    return LazyGroup
