"""Errors that a person can act on: what is wrong, what it is, what was expected, what to do next.

Exit codes of `slipway` (the CLI documents the same table):

| code | meaning |
|---|---|
| 0 | done |
| 1 | a bug in Slipway: please report it |
| 2 | bad input: config, data, checkpoint, adapter, or a damaged record of Slipway's own |
| 3 | the gate did not pass: nothing was promoted |
| 4 | the machine lacks something: disk, memory, port, compiler, service |
| 5 | a stage or an engine died |
| 129, 130, 143 | ended by SIGHUP, by Ctrl-C (SIGINT), by SIGTERM |
| 141 | nobody read its output (a closed pipe) |
"""

from __future__ import annotations

LONGEST = 4000  # characters of a part of a message


class SlipwayError(Exception):
    """Base of every error raised on purpose. `thing` is what, `value` what it is, `expected` what it should be."""

    exit_code = 1
    transient = False  # whether another attempt may succeed although nobody changed anything

    def __init__(self, thing: str, value: object, expected: str, next_step: str) -> None:
        shown = _bounded(str(value))
        self.thing, self.value = _bounded(thing), value if shown == str(value) else shown
        self.expected, self.next_step = _bounded(expected), _bounded(next_step)
        super().__init__(f"{self.thing}: {self.value}; expected {self.expected}. Next: {self.next_step}")

    def to_json(self) -> dict[str, str]:
        """The error as JSON values; `from_json` makes it again."""
        return {
            "type": type(self).__name__,
            "thing": self.thing,
            "value": str(self.value),
            "expected": self.expected,
            "next_step": self.next_step,
        }

    @staticmethod
    def from_json(doc: dict[str, str]) -> SlipwayError:
        """Rebuild an error that a stage process wrote, so that the orchestrator raises what the stage raised."""
        kinds = {c.__name__: c for c in _subclasses(SlipwayError)}
        kind = kinds.get(doc["type"], SlipwayError)
        return kind(doc["thing"], doc["value"], doc["expected"], doc["next_step"])


class ConfigError(SlipwayError):
    """A config key or value is unknown, of the wrong type, or contradicts another."""

    exit_code = 2


class DataError(SlipwayError):
    """Training or evaluation data is malformed or leaks."""

    exit_code = 2


class CheckpointError(SlipwayError):
    """A model directory, shard or tensor is missing, damaged or of the wrong shape."""

    exit_code = 2


class AdapterError(SlipwayError):
    """An adapter does not fit its base, or uses a feature that cannot be merged."""

    exit_code = 2


class StateError(SlipwayError):
    """A file that Slipway wrote and needs is not what was written: damaged, replaced, or not readable."""

    exit_code = 2


class BundleError(SlipwayError):
    """A bundle is not, file for file, what its manifest and its signature say, or nobody who is trusted signed it."""

    exit_code = 2


class GateError(SlipwayError):
    """The gate did not pass; the champion keeps serving."""

    exit_code = 3


class ResourceError(SlipwayError):
    """The machine lacks something: disk, memory, a free port, a compiler, a running service."""

    exit_code = 4


class PortTakenError(ResourceError):
    """A port that was to be listened on is another process's; another one may be free."""


class StageError(SlipwayError):
    """A stage process ended without an artifact."""

    exit_code = 5


class StageKilledError(StageError):
    """A stage process was ended from outside: killed, or its machine was lost."""

    transient = True


class BusyError(StageError):
    """Another command holds what a stage needs; it lets go by itself."""

    transient = True


class EngineError(SlipwayError):
    """An engine did not build, start, or answer."""

    exit_code = 5


class EngineLostError(EngineError):
    """An engine that answered was killed from outside, or answers no more."""

    transient = True


class LinkLostError(ResourceError):
    """The session with a target was cut; what it had recorded there is kept or finished, else undone."""

    transient = True


def _bounded(text: str) -> str:
    """`text` whole, or its beginning and end: a value from a damaged file may have any size."""
    if len(text) <= LONGEST:
        return text
    end = LONGEST // 2 - 40  # room for the words between
    return f"{text[:end]} ... ({len(text) - 2 * end} characters left out) ... {text[-end:]}"


def _subclasses(cls: type[SlipwayError]) -> list[type[SlipwayError]]:
    classes = [cls]
    for sub in cls.__subclasses__():
        classes += _subclasses(sub)
    return classes
