"""End an instance: a second request for it may be refused, and that is no failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from towline import errors
from towline.core.instance import Instance, InstanceId, InstanceStatus


async def end(
    get: Callable[[InstanceId], Awaitable[Instance | None]],
    instance_id: InstanceId,
    asked: Awaitable[Any],
) -> None:
    """Await a request to end an instance.

    A refusal counts for nothing when the instance is on its way out, or not known.

    Raises:
        ProviderError: It was refused, and the instance is there as before.
    """  # noqa: DOC501 - what was awaited makes the others
    try:
        await asked
    except (errors.ProviderAuthError, errors.RateLimited):
        raise
    except errors.NotFound:
        return
    except errors.ProviderError:
        found = await get(instance_id)
        if found is not None and found.status is not InstanceStatus.TERMINATING:
            raise
