"""A server over tiny random models, on a node whose HBM holds two of eight experts."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import jax
import pytest
import uvicorn

from experts.composition import Composition
from rdujax.coe.nodes import Kind, Node, Options
from rdujax.coe.phases import Table
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.residency import Sizes
from rdujax.coe.store import Store
from rdujax.coe.systems import System
from rdujax.serve.app import Service
from rdujax.serve.emulated import EmulatedNode
from rdujax.serve.engine import Engine
from rdujax.serve.protocol import PatientProtocol
from rdujax.serve.shelf import Shelf
from tests.rooms.experts.family import published

MS = 10**9
KIND = Kind(Sizes(100), 0, Table({(1, 256): 3 * MS, (8, 256): 5 * MS}, {(1, 512): MS // 4, (8, 512): MS // 2}))
SLOW = Kind(Sizes(100), 0, Table({(1, 256): 2000 * MS}, {(1, 512): 5 * MS}))


@pytest.fixture(scope="module", autouse=True)
def _promotions_of_users() -> Iterator[None]:
    """For all threads: a server runs its models in one of its own."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def family(_promotions_of_users: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("family"))


def system(names: tuple[str, ...], kind: Kind = KIND) -> System:
    node = Node("node", 230, 10_000, {"router": 20}, lambda prompts, tokens: 2 * MS, lambda moved: moved * MS // 25)
    return System(node, dict.fromkeys(names, kind))


Make = Callable[..., Engine]


@pytest.fixture
def make(family: Path, tmp_path: Path) -> Iterator[Make]:
    """Engines over the family, or another folder of models; they are closed behind the test."""
    composition, made = Composition(family), list[tuple[Engine, Store]]()

    def engine(
        clock: str = "offline", options: Options | None = None, most: int = 64, models: Path = family, kind: Kind = KIND
    ) -> Engine:
        options = options or Options()
        store = Store.of_folders({name: models / name for name in composition.experts}, tmp_path)
        node = EmulatedNode(system(store.names, kind), LeastRecentlyUsed(), options, clock)
        found = Engine(composition.router, composition.tokenizer, Shelf(store), node, most, options.batch)
        made.append((found, store))
        return found

    yield engine
    for each, store in made:
        assert each.close(30)
        store.close()


@contextmanager
def listening(service: Service) -> Iterator[int]:
    """The port of a server in a thread, which ends with the context."""
    server = uvicorn.Server(
        uvicorn.Config(service.app(), "127.0.0.1", 0, log_level="warning", lifespan="off", http=PatientProtocol)
    )
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


def wait_for(what: Callable[[], bool]) -> None:
    """Until it is so; half a minute at most."""
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)
