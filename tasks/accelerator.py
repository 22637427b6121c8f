"""The slot in Prefect that shows who has this machine's accelerator.

The lease itself is the kernel's lock (`slipway.runners.lease`), which a killed process cannot keep. The slot is
taken by whoever has the lease, and ends SLOT_S after a process that was killed; where it is not free within WAIT_S, as
after a leak upstream, or no server answers, the lease counts alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect import get_run_logger
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException

from slipway.ops.prefect_api import machine_slot

SLOT_S = 60.0  # Prefect's shortest lease
WAIT_S = 90.0


@contextmanager
def accelerator_slot() -> Iterator[None]:
    """Occupy this machine's slot in the block, where the server has one (`make up` makes it)."""
    with ExitStack() as stack:
        try:
            slot = concurrency(
                machine_slot(),
                timeout_seconds=WAIT_S,
                lease_duration=SLOT_S,
                raise_on_lease_renewal_failure=False,
            )
            stack.enter_context(slot)
        except (TimeoutError, PrefectException, httpx.HTTPError) as err:
            get_run_logger().warning("no slot %s in Prefect (%s): the machine's own lease counts", machine_slot(), err)
        yield
