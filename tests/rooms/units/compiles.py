"""How many programs XLA compiles: an eager call of a unit compiles once, whatever the values."""

from collections.abc import Callable
from typing import Any

import jax


def compiled_by(call: Callable[[], Any]) -> int:
    """Programs that XLA compiles while `call` runs."""
    events: list[str] = []

    def heard(event: str, _: float, **__: Any) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    return sum(event.endswith("backend_compile_duration") for event in events)


def assert_compiles_once(call: Callable[[], Any]) -> None:
    """The first call compiles, and a second one nothing more."""
    jax.clear_caches()
    assert compiled_by(call) > 0
    assert compiled_by(call) == 0
