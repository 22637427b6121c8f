"""A pinned image on an engine: its architecture is checked in the registry before the pull, on the machine after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docker.errors import APIError, ImageNotFound

from slipway.config.image import ImageConfig
from slipway.containers import images
from slipway.containers.docker_client import LOST, PULL_S, DockerClient, UnreachableError, close
from slipway.errors import ConfigError, ResourceError
from slipway.system.throttle import Throttle

ANSWER_S = 10.0
SAY_EVERY_S = 10.0


def have_image(engine: DockerClient, info: dict[str, Any], image: ImageConfig, arch: str, log: Path) -> str:
    """`repository@sha256:...`, on the engine's machine. `info`: what the engine says of itself. Progress of a pull goes
    to `log`.

    Raises ConfigError for a digest that is not pinned or not there, and for another architecture, of image or machine,
    naming both; ResourceError for an engine or registry that does not answer, or a full disk.
    """
    reference = images.pinned(image, arch)
    machine = images.architecture(info["Architecture"])
    if machine != arch:
        raise ConfigError(
            f"machine {engine.host}",
            machine,
            f"{arch}, the target's architecture",
            "choose the target's row that fits, or its host",
        )
    image_there = engine.ask_until_answered(lambda c: inspect_image(c, reference), ANSWER_S)
    if image_there is None:
        images.check_before_pull(image, arch)
        _pull(engine, reference, log)
        image_there = engine.ask_until_answered(lambda c: inspect_image(c, reference), ANSWER_S)
    if image_there is None:
        raise ResourceError(
            f"image {reference}", f"not on {engine.host} after the pull", "the image", "pull it there by hand and look"
        )
    images.refuse_other_on_machine(reference, image_there["Architecture"], arch, engine.host)
    return reference


def inspect_image(client: Any, reference: str) -> dict[str, Any] | None:
    """What docker says of an image on its machine; None where it is not."""
    try:
        return dict(client.api.inspect_image(reference))
    except ImageNotFound:
        return None


def _pull(engine: DockerClient, reference: str, log: Path) -> None:
    try:
        client = engine.connect(PULL_S)
        try:
            _follow(client.api.pull(reference, stream=True, decode=True), reference, log)
        finally:
            close(client)
    except APIError as err:
        raise _refused(engine, reference, str(err.explanation)) from err
    except (UnreachableError, *LOST) as err:
        raise ResourceError(
            f"image {reference}",
            f"the pull on {engine.host} broke off: {err}",
            "the image",
            "run again: layers pulled so far are kept",
        ) from err


def _follow(events: Any, reference: str, log: Path) -> None:
    """Lines like `pulling X: 3.1 of 20.4 GB`, one every ten seconds. Raises what the engine reports as an error."""
    layers: dict[str, tuple[int, int]] = {}
    throttle = Throttle(SAY_EVERY_S)
    for event in events:
        if "error" in event:
            raise _refused(None, reference, str(event["error"]))
        if size := event.get("progressDetail", {}).get("total"):
            layers[event.get("id", "")] = (event["progressDetail"].get("current", 0), size)
        if throttle.due():
            done, total = (sum(sizes) / 1e9 for sizes in zip(*layers.values(), strict=True)) if layers else (0.0, 0.0)
            _append(log, f"pulling {reference}: {done:.1f} of {total:.1f} GB")
    _append(log, f"pulled {reference}")


def _append(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as f:
        f.write(text + "\n")


def _refused(engine: DockerClient | None, reference: str, message: str) -> ConfigError | ResourceError:
    where = f" on {engine.host}" if engine else ""
    if "no space left" in message:
        return ResourceError(
            f"image {reference}", f"no space left{where}", "room for the image", "`docker system df` there, free some"
        )
    if "not found" in message or "manifest unknown" in message:
        return ConfigError(
            f"image {reference}", message, "an image that the registry has", "`slipway pin` reads its digests"
        )
    return ResourceError(
        f"image {reference}", f"the pull{where} failed: {message}", "the image", "mend what it says, then again"
    )
