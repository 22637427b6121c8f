"""Messages by Prefect's notification blocks, one for each event; what cannot be sent is logged and ends nothing."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import AppriseNotificationBlock
from prefect.cache_policies import NO_CACHE
from pydantic import Field, SecretStr

from slipway.config.load import Config
from slipway.errors import StateError
from slipway.ops.message import Message, once, was_sent
from slipway.ops.pending_messages import pending_messages, settle
from slipway.system.redact import mask


class MailBlock(AppriseNotificationBlock):
    """Mail through an SMTP server."""

    _block_type_name = "Slipway mail"
    _block_type_slug = "slipway-mail"
    _documentation_url = None  # type: ignore[assignment]

    url: SecretStr = Field(description="mailtos://USER:PASSWORD@SERVER?to=NAME@HOST, as Apprise writes it.")


@task(name="notify", task_run_name="notify", cache_policy=NO_CACHE)
def notify(config: Config, message: Message) -> list[str]:
    """Send the message to the blocks of `notify.to`, where `notify.on` holds its kind and it was not sent before; the
    blocks that have it now."""
    params = config.notify
    if not params.to or message.kind not in params.on:
        return []
    with once(Path(config.store.root), message) as record:
        if record is None:
            return []
        sent = [slug for slug in params.to if _send(slug, message)]
        if sent:
            record()
    return sent


def send_pending(config: Config) -> list[Message]:
    """Send what was written down while Prefect was away; those that a block took now. A record that cannot be read is a
    warning: it must not end the run that looks."""
    store, sent = Path(config.store.root), []
    try:
        for message in pending_messages(store):
            if notify(config, message):
                sent.append(message)
            if message.kind not in config.notify.on or was_sent(store, message):
                settle(store, message)
    except StateError as err:
        get_run_logger().warning("%s", err)
    return sent


def _send(slug: str, message: Message) -> bool:
    """Whether the block took the message. Whatever a service or a block says of its own is a warning: a message must
    not end the work that it is about."""
    try:
        block = Block.load(slug)
        if not isinstance(block, NotificationBlock):
            raise TypeError(f"{type(block).__name__} sends no notifications")
        block.notify(message.body, subject=message.subject)  # type: ignore[unused-coroutine]
    except Exception as err:  # noqa: BLE001 (blocks are anybody's code)
        why = mask(f"{type(err).__name__}: {err}")[:300]
        get_run_logger().warning(
            "notify.to %s did not take %r: %s. Next: `prefect block ls`", slug, message.subject, why
        )
        return False
    return True
