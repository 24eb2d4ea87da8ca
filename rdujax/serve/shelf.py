"""Models of experts in the memory of this process: those that are in HBM of the emulated node, and no others.

home copy, verified (a disk; DDR of the node) -> model (this process; HBM of the node)
"""

from collections.abc import Collection

from experts.checkpoints import CheckpointError, load
from experts.llama import Llama
from rdujax.coe.store import Store, StoreError
from rdujax.serve.wishes import ExpertFailed


class Shelf:
    """Loads an expert from its home copy when it is needed, and drops it when it has left HBM."""

    def __init__(self, store: Store):
        self.store = store
        self._models: dict[str, Llama] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Whose weights this process holds."""
        return tuple(self._models)

    def model(self, expert: str) -> Llama:
        """An expert, ready to run. Raises ExpertFailed where it cannot be brought home or read."""
        if expert not in self._models:
            try:
                self._models[expert] = load(self.store.home(expert))
            except (StoreError, CheckpointError) as error:
                raise ExpertFailed(f"expert {expert!r} cannot be loaded: {error}") from error
        return self._models[expert]

    def keep(self, experts: Collection[str]) -> None:
        """Drops all others."""
        self._models = {name: model for name, model in self._models.items() if name in experts}
