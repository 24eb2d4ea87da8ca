"""The thread that answers: what it says, in which order, what it takes, and that nothing but a close ends it."""

import queue
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import pytest

from experts.checkpoints import load, save
from experts.composition import Composition
from experts.data.splits import DOMAINS
from experts.generate import Sampling, generate
from experts.router import Route
from experts.tokenizer import END, prompt_ids
from rdujax.base.errors import CapacityError, UnknownNameError
from rdujax.coe.nodes import Options
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.requests import PARTS, Request
from rdujax.coe.residency import Sizes
from rdujax.coe.serving import Server
from rdujax.coe.traffic import Open
from rdujax.serve.engine import Engine
from rdujax.serve.wishes import ExpertFailed, Happening, IsClosing, QueueIsFull, Reply, TookTooLong, Wish
from tests.rooms.serve.conftest import KIND, SLOW, Make, system

LONG = "one two three"
SAMPLING = Sampling(1.0)  # the likeliest tokens of random models are no letters


class Listener:
    """Hears of a wish."""

    def __init__(self) -> None:
        self.heard: queue.Queue[Happening] = queue.Queue()

    def wish(self, engine: Engine, prompt: str = LONG, expert: str | None = None, most: int = 12, **others) -> Wish:
        others = {"sampling": SAMPLING} | others
        return Wish(prompt_ids(engine.tokenizer, prompt), self.heard.put, most, expert, **others)

    def all(self) -> list[Happening]:
        """Up to the end."""
        found = [self.heard.get(timeout=60)]
        while not isinstance(found[-1], Reply | Exception):
            found.append(self.heard.get(timeout=60))
        return found


def asked(engine: Engine, *wishes: tuple[str, str | None], **others) -> list[list[Happening]]:
    """All at once, and everything that is heard of each."""
    listeners = [Listener() for _ in wishes]
    engine.submit(*(each.wish(engine, *wish, **others) for each, wish in zip(listeners, wishes, strict=True)))
    return [each.all() for each in listeners]


def reply(heard: list[Happening]) -> Reply:
    assert isinstance(heard[-1], Reply), heard[-1]
    return heard[-1]


def test_answers_are_those_of_the_expert_and_all_is_told_in_order(make: Make, family: Path):
    engine = make()
    for expert in DOMAINS[:3]:
        [heard] = asked(engine, (LONG, expert), most=20)
        found = reply(heard)
        ids = prompt_ids(engine.tokenizer, LONG)
        [tokens] = generate(load(family / expert), [ids], most=20, stop={END}, sampling=SAMPLING)
        assert found.text == engine.tokenizer.decode(tokens) and found.tokens_out == len(tokens)
        assert found.text == "".join(piece for piece in heard[:-1] if isinstance(piece, str))
        assert (found.expert, found.route, found.finish) == (expert, None, "length" if len(tokens) == 20 else "stop")


def test_the_router_says_who_answers(make: Make, family: Path):
    engine, composition = make(), Composition(family)
    for prompt in ("What is 2 plus 3?", "Hello!", LONG):
        [heard] = asked(engine, (prompt, None))
        [way] = composition.routes([prompt])
        assert isinstance(heard[0], Route) and heard[0].label == way.label == reply(heard).expert
        assert reply(heard).route == heard[0]


def test_sampled_tokens_follow_from_the_seed(make: Make):
    engine = make()
    texts = [reply(asked(engine, (LONG, "math"), seed=seed, most=30)[0]).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_an_answer_ends_before_its_stop(make: Make):
    engine = make()
    whole = reply(asked(engine, (LONG, "math"), most=30)[0]).text
    found = reply(asked(engine, (LONG, "math"), most=30, stop=(whole[3:5],))[0])
    assert found.text == whole[: whole.find(whole[3:5])] and found.finish == "stop"


def test_what_it_takes_is_what_the_node_says_of_the_same_requests(make: Make):
    engine = make(options=Options(batch=3, grouped=True))
    wishes = [("one", "math"), ("two", "sql"), ("three", "math"), ("four", "code"), ("five", "sql")]
    listeners = [Listener() for _ in wishes]
    engine.between(lambda: engine.submit(*(
        listener.wish(engine, *wish) for listener, wish in zip(listeners, wishes, strict=True)
    ))).result()  # fmt: skip
    found = [reply(each.all()) for each in listeners]
    requests = [
        Request(at, 0, (expert,), each.tokens_in, max(1, each.tokens_out), True)
        for at, ((_, expert), each) in enumerate(zip(wishes, found, strict=True))
    ]
    of = system(engine.shelf.store.names)
    server = Server(of.node, of.experts, LeastRecentlyUsed(), Options(batch=3, grouped=True))
    # Two batches: those of the second arrive when the first was begun.
    expected = [*server.serve(Open(requests[:3])), *server.serve(Open(requests[3:]))]
    for each in expected:
        same = found[each.request.number].served
        assert [getattr(same, part) for part in PARTS] == [getattr(each, part) for part in PARTS]
        assert same.hits == each.hits and sum(getattr(same, part) for part in PARTS) == same.latency_ps


def test_models_that_left_hbm_are_dropped(make: Make):
    engine = make()
    for at, expert in enumerate(DOMAINS):
        assert reply(asked(engine, (LONG, expert), most=2)[0]).served.hits == 0
        engine.between(lambda: None).result(10)
        assert engine.shelf.loaded == DOMAINS[max(0, at - 1) : at + 1]
        assert [each["expert"] for each in engine.node.state["resident"]] == list(engine.shelf.loaded)
    assert reply(asked(engine, (LONG, DOMAINS[-1]), most=2)[0]).served.hits == 1


@pytest.mark.parametrize("clock", ["offline", "blocking"])
def test_an_expert_that_is_prefetched_is_there_when_it_is_asked_for(make: Make, clock: str):
    engine = make(clock)
    assert engine.between(lambda: engine.node.prefetch("math")).result(10)
    time.sleep(0.01)
    served = reply(asked(engine, (LONG, "math"), most=2)[0]).served
    assert served.hits == 1 and served.switch_ps == 0
    with pytest.raises(UnknownNameError, match="nobody"):
        engine.between(lambda: engine.node.prefetch("nobody")).result(10)


def test_a_copy_does_not_begin_before_it_is_asked_for(make: Make):
    large = replace(KIND, sizes=Sizes(210))  # 8.4 ms
    engine = make("blocking", kind=large)
    time.sleep(0.1)

    def at_once() -> Wish:
        engine.node.prefetch("math")
        engine.submit(wish := listener.wish(engine, LONG, "math", 2))
        return wish

    listener = Listener()
    engine.between(at_once).result(10)
    assert reply(listener.all()).served.switch_ps > 0


def test_one_whose_keys_and_values_have_no_room_takes_nothing_from_others(make: Make):
    engine = make(options=Options(batch=2), kind=replace(KIND, cache_bytes_per_token=2))
    one, two = Listener(), Listener()
    engine.between(
        lambda: engine.submit(one.wish(engine, LONG, "math", 100), two.wish(engine, LONG, "sql", 4))
    ).result()
    assert isinstance(one.all()[-1], CapacityError) and isinstance(two.all()[-1], Reply)
    assert engine.node.state["hbm_used_bytes"] == 120


def test_whoever_asked_between_and_left_ends_nothing(make: Make):
    engine, held = make(), threading.Event()
    engine.between(lambda: held.wait(60))
    assert engine.between(lambda: None).cancel()
    held.set()
    assert isinstance(asked(engine, (LONG, "math"))[0][-1], Reply)


def test_both_clocks_agree_and_a_blocking_one_keeps_its_promise(make: Make):
    offline, blocking = make(), make("blocking")
    for wish in ((LONG, "math"), (LONG, "sql"), (LONG, "math"), (LONG, "json"), (LONG, None)):
        begun = time.monotonic()
        one, two = (reply(asked(engine, wish, most=25)[0]) for engine in (offline, blocking))
        took_s = time.monotonic() - begun
        parts = [[getattr(each.served, part) for part in PARTS[1:]] for each in (one, two)]
        assert parts[0] == parts[1] and one.text == two.text and two.served.queue_ps == 0
        assert took_s >= two.served.latency_ps / 1e12


def test_a_blocking_clock_tells_tokens_when_the_node_has_them(make: Make):
    engine, moments = make("blocking", kind=SLOW), list[tuple[float, Happening]]()
    asked(engine, (LONG, "math"), most=1)  # compiled, and in HBM
    done = threading.Event()

    def told(what: Happening) -> None:
        moments.append((time.monotonic(), what))
        if isinstance(what, Reply):
            done.set()

    wish = Listener().wish(engine, LONG, "math", 40)
    wish.told = told
    begun = time.monotonic()
    engine.submit(wish)
    assert done.wait(60)
    last = moments[-1][1]
    assert isinstance(last, Reply)
    assert moments[0][0] - begun >= last.served.first_token_ps / 1e12 == 2.0
    assert moments[-1][0] - begun >= last.served.latency_ps / 1e12
    assert moments[-1][0] - moments[0][0] >= 0.1, "one by one, and not all at the end"


def test_of_a_batch_each_reply_comes_when_the_node_has_it(make: Make):
    engine = make("blocking", options=Options(batch=2), kind=SLOW)
    asked(engine, (LONG, "math"), most=1)
    moments = dict[str, float]()
    wishes = [Listener().wish(engine, LONG, expert, 2) for expert in ("math", "sql")]
    done = threading.Event()

    def told(expert: str, what: Happening) -> None:
        if isinstance(what, Reply):
            moments[expert] = time.monotonic()
            if len(moments) == 2:
                done.set()

    for wish in wishes:
        wish.told = partial(told, wish.expert)
    engine.submit(*wishes)
    assert done.wait(60) and moments["sql"] - moments["math"] >= 1.5


@pytest.mark.parametrize("gives_up", [True, False])
def test_nobody_is_played_to_who_does_not_wait(make: Make, gives_up: bool):
    engine = make("blocking", kind=SLOW)
    asked(engine, (LONG, "math"), most=1)
    listener = Listener()
    wish = listener.wish(engine, LONG, "math", 2, deadline_s=time.monotonic() + (60 if gives_up else 0.6))
    begun = time.monotonic()
    engine.submit(wish)
    if gives_up:
        time.sleep(0.2)
        wish.give_up()
    engine.between(lambda: None).result(30)
    assert time.monotonic() - begun < 1.8
    assert listener.heard.empty() if gives_up else isinstance(listener.all()[-1], TookTooLong)


def test_more_than_may_wait_are_refused_and_none_of_a_request(make: Make):
    engine = make(most=2)
    held, going = threading.Event(), threading.Event()
    engine.between(lambda: (going.set(), held.wait(60)))
    assert going.wait(60)
    listeners = [Listener() for _ in range(4)]
    engine.submit(listeners[0].wish(engine))
    with pytest.raises(QueueIsFull, match="2 may"):
        engine.submit(listeners[1].wish(engine), listeners[2].wish(engine))
    engine.submit(listeners[3].wish(engine))
    assert engine.waiting == 2
    held.set()
    assert all(isinstance(listeners[at].all()[-1], Reply) for at in (0, 3))
    assert listeners[1].heard.empty()


def test_work_that_nobody_waits_for_stops(make: Make):
    engine, first = make(), threading.Event()
    listener = Listener()
    wish = listener.wish(engine, LONG, "math", 200)

    def told(what: Happening) -> None:
        listener.heard.put(what)
        if isinstance(what, str):
            wish.give_up()
            first.set()

    wish.told = told
    engine.submit(wish)
    assert first.wait(60)
    engine.between(lambda: None).result(60)
    pieces = [listener.heard.get() for _ in range(listener.heard.qsize())]
    assert 1 <= len(pieces) <= 3 and all(isinstance(each, str) for each in pieces)
    assert engine.node.resident == {"math"}, "what was written was priced"


def test_one_that_gave_up_while_it_waited_is_never_begun(make: Make):
    engine, held = make(), threading.Event()
    engine.between(lambda: held.wait(60))
    listener = Listener()
    wish = listener.wish(engine, LONG, "math")
    engine.submit(wish)
    wish.give_up()
    held.set()
    engine.between(lambda: None).result(60)
    assert listener.heard.empty() and engine.node.resident == frozenset()


@pytest.mark.parametrize("within_s", [-1.0, 0.0])
def test_a_wish_has_its_time(make: Make, within_s: float):
    engine = make()
    [heard] = asked(engine, (LONG, "math"), most=200, deadline_s=time.monotonic() + within_s)
    assert isinstance(heard[-1], TookTooLong)
    [heard] = asked(engine, (LONG, "math"))
    assert isinstance(heard[-1], Reply)


def test_a_listener_that_fails_takes_nothing_from_others(make: Make):
    engine = make()

    def told(what: Happening) -> None:
        raise RuntimeError("gone")

    wish = Listener().wish(engine, LONG, "math")
    wish.told = told
    engine.submit(wish)
    assert isinstance(asked(engine, (LONG, "sql"))[0][-1], Reply) and engine.is_alive and wish.is_given_up


@pytest.fixture
def broken(family: Path, tmp_path: Path) -> Path:
    """A family of which some are broken: sql has a weight that is no number."""
    models = tmp_path / "models"
    shutil.copytree(family, models)
    sql = load(models / "sql")
    kernel = sql.layers[0].mlp.gate.kernel
    kernel.set_value(jnp.full_like(kernel[...], jnp.nan))
    save(sql, models / "sql")
    return models


def test_an_expert_that_fails_is_an_error_for_its_own_prompts_alone(make: Make, broken: Path):
    engine = make(models=broken, options=Options(batch=4))
    weights = broken / "code" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)  # one bit, behind the back of the store
    (broken / "json" / "model.safetensors").write_bytes(data[:500])
    heard = asked(engine, (LONG, "math"), (LONG, "sql"), (LONG, "code"), (LONG, "json"))
    assert isinstance(heard[0][-1], Reply)
    for each, why in zip(heard[1:], ("no numbers", "not what it was", "not what it was"), strict=True):
        [error] = each
        assert isinstance(error, ExpertFailed) and why in str(error)
    assert isinstance(asked(engine, (LONG, "roman"))[0][-1], Reply)
    assert set(engine.shelf.loaded) <= engine.node.resident == {"math", "roman"}
    data[-100] ^= 1
    weights.write_bytes(data)  # put back
    assert isinstance(asked(engine, (LONG, "code"))[0][-1], Reply)


def test_what_was_loaded_once_answers_on_whatever_happens_to_its_files(make: Make, family: Path, tmp_path: Path):
    models = tmp_path / "models"
    shutil.copytree(family, models)
    engine = make(models=models)
    before = reply(asked(engine, (LONG, "math"))[0]).text
    (models / "math" / "model.safetensors").write_bytes(b"")
    asked(engine, (LONG, "sql")), asked(engine, (LONG, "code"))  # so that math has left HBM
    assert "math" not in engine.shelf.loaded
    assert reply(asked(engine, (LONG, "math"))[0]).text == before


def test_a_close_answers_all_that_wait_and_takes_no_more(make: Make):
    engine, held = make(), threading.Event()
    engine.between(lambda: held.wait(60))
    listeners = [Listener() for _ in range(3)]
    engine.submit(*(each.wish(engine, LONG, "math") for each in listeners))
    assert not engine.close(0.05) and engine.is_closing
    with pytest.raises(IsClosing):
        engine.submit(Listener().wish(engine))
    with pytest.raises(IsClosing):
        engine.between(lambda: None)
    held.set()
    assert engine.close(60) and all(isinstance(each.all()[-1], Reply) for each in listeners)
