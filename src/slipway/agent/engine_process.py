"""Engines that are processes of the target, which outlive whoever starts them, for weeks: start one, know it again.

A process is known by pid and start (`processes.py`): a pid alone may belong to a stranger after a reboot or a crash. It
has a session of its own, and a watcher that bounds its log.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from slipway.agent import processes, rotation
from slipway.agent.files import write_atomic
from slipway.agent.logins import without_logins
from slipway.agent.processes import Process
from slipway.agent.start_plan import CACHE, CONFIG, StartPlan, fill, usable_cores
from slipway.errors import EngineError


def spawn(plan: StartPlan, bundle: Path, host: str, port: int, log: Path) -> Process:
    """Start the engine of a bundle. Its caches and config files lie in `start` beside the log, where the plan has any.

    Raises EngineError for a program that this machine cannot run.
    """
    argv, environment = _rendered(plan, bundle, host, port, log.parent / "start")
    if log.exists():  # an error shows the end of this start's log, not of the last one's
        log.replace(log.with_name(f"{log.name}.1"))
    alive_reader, alive_writer = os.pipe()  # ends when the engine does
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, alive_writer, 3),
    ]
    try:
        # posix_spawn, not Popen: the engine must outlive its handle without a warning
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True)
        _spawn_log_watcher(log, alive_reader)
    except OSError as err:
        raise EngineError(
            f"program {argv[0]}", err.strerror, "an executable for this machine", "`slipway run` makes it again"
        ) from err
    finally:
        os.close(alive_reader)
        os.close(alive_writer)
    return processes.identify(pid)


def of_release(release: Path) -> list[Process]:
    """Processes in a session of their own that run out of this release, whatever its record says: an evaluation's
    engine is in its stage's session."""
    engine = f"{release / 'engine'}/"
    running = []
    for pid, words in processes.session_leaders():
        if any(word.startswith(engine) for word in words):
            with suppress(ProcessLookupError):  # it ended while we looked
                running.append(processes.identify(pid))
    return running


def releases_that_run(releases: Path) -> set[str]:
    """Names of the folders of `releases` out of which an engine runs, also of those that somebody deleted."""
    below = f"{releases}/"
    words = [word for _, line in processes.session_leaders() for word in line if word.startswith(below)]
    return {word.removeprefix(below).partition("/")[0] for word in words}


def _rendered(plan: StartPlan, bundle: Path, host: str, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a start, whose empty cache and config files are made in `folder`."""
    cache, config = folder / CACHE, folder / CONFIG
    values = {"bundle": str(bundle), "model": str(model_of(plan, bundle)), "cache": str(cache)}
    values |= {"host": host, "port": str(port), "threads": str(usable_cores())}
    if plan.caches or plan.files:
        write_start_files(plan, folder, values, str(config))
    if plan.caches:
        from slipway.agent.warm_caches import fill_start  # a look at a target needs none of it

        fill_start(bundle, folder, program=fill(plan.argv[0], values, plan.files, str(config)))
    variables = {variable: f"{{cache}}/{path}" for path, variable in plan.caches} | dict(plan.environment)
    filled = {name: fill(text, values, plan.files, str(config)) for name, text in variables.items()}
    argv = [fill(argument, values, plan.files, str(config)) for argument in plan.argv]
    return argv, {**without_logins(os.environ), **filled}


def model_of(plan: StartPlan, bundle: Path) -> Path:
    """The checkpoint: where the plan says that it lies, else the bundle's own, else the bundle itself, as for an engine
    that loads a file of it."""
    own = bundle / "model"
    return Path(plan.model) if plan.model else own if own.is_dir() else bundle


def write_start_files(plan: StartPlan, folder: Path, values: dict[str, str], config: str) -> None:
    """A start's own folder: an empty cache and the config files, rendered. `config`: how the engine sees their
    folder."""
    for name in (CACHE, CONFIG):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for name, text in plan.files.items():
        file = folder / CONFIG / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, fill(text, values, plan.files, config))


def _spawn_log_watcher(log: Path, alive: int) -> None:
    """Start the process that bounds the log. It holds none of our outputs: whoever reads them through a pipe would wait
    for as long as the engine serves."""
    argv, environment = rotation.watcher(log)
    actions = [
        (os.POSIX_SPAWN_DUP2, alive, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsid=True)
