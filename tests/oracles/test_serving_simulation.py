"""A node that serves, against discrete-event simulation: do the law in prose and the server tell the same story?"""

from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from rdujax.coe.copies import Copies
from rdujax.coe.nodes import Event, Options
from rdujax.coe.policies import POLICIES
from rdujax.coe.requests import PARTS, Refused
from rdujax.coe.serving import Server
from tests.oracles.serving_cases import Case, by_hand, drawn
from tests.oracles.serving_simulation import NoRoom, Process, Reference

SEEDS = (*range(250), 1109, 2500)  # in the last two, who is on its way in would leave if it could


@cache
def case_and_reference(seed: int, attempt: int = 0) -> tuple[Case, Reference]:
    """The first of the seed's cases in which there is room at all times."""
    case = drawn(Random(f"{seed} {attempt}"))
    try:
        return case, Reference(case).run()
    except NoRoom:
        return case_and_reference(seed, attempt + 1)


def assert_same_story(case: Case, reference: Reference) -> None:
    memory, events = reference.memory, list[Event]()

    def told(event: Event) -> None:
        events.append(event)
        assert server.residency.used_bytes <= case.node.hbm_bytes

    server = Server(case.node, case.experts, POLICIES[case.policy](), case.options, told)
    over = {each.request.number: each for each in server.serve(case.traffic())}
    assert over == reference.over
    # Who was guessed wrong may still be on his way when all is answered.
    assert Counter(events) == Counter(each for each in reference.events if each.last_ps <= server.now_ps)
    assert set(server.residency.experts) == set(memory.recent)
    assert server.residency.used_bytes == sum(case.node.pinned.values()) + memory.bytes_of(memory.recent)
    for each in over.values():
        assert isinstance(each, Refused) or sum(getattr(each, part) for part in PARTS) == each.latency_ps


@pytest.mark.parametrize("seed", SEEDS)
def test_all_requests_and_events_are_those_of_the_simulation(seed):
    assert_same_story(*case_and_reference(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_end_when_those_of_the_simulation_do(seed):
    rng, reference = Random(seed), Reference(drawn(Random(seed)))
    copies, ended = Copies(reference.options.channels), []

    def begin() -> Process:
        for at_ps, name in sorted((rng.randint(0, 300), str(each)) for each in range(12)):
            yield reference.env.timeout(at_ps - reference.now_ps)
            ended.extend(copies.advance(at_ps))
            copies.start(name, work_ps := rng.randint(1, 100))
            reference.under_way[name] = reference.env.process(reference.copying("copy", name, work_ps))

    reference.env.process(begin())
    reference.env.run()
    ended += copies.advance(reference.now_ps)
    assert sorted(ended) == sorted((event.what, event.last_ps) for event in reference.events)


def test_the_cases_are_of_all_sorts():
    references = [case_and_reference(seed)[1] for seed in SEEDS]
    counts = Counter(event.kind for each in references for event in each.events)
    counts["refused"] = sum(isinstance(record, Refused) for each in references for record in each.over.values())
    assert len(counts) == 6 and min(counts.values()) > 20


def test_a_prefetch_fails_nothing_that_is_served_without_one():
    # While c comes in it may not leave, and b finds no room to run beside it, but would as soon as c is there.
    asked = {"a": (20, 1), "b": (20, 30), "c": (20, 1)}
    for prefetch in (0, 1, 2):
        case = by_hand(asked, 62, lambda moved: 10 * moved, Options(3, prefetch=prefetch, channels=1))
        server = Server(case.node, case.experts, POLICIES["lru"](), case.options)
        assert len(list(server.serve(case.traffic()))) == 3


def test_copies_that_take_no_time_are_told_and_may_leave():
    asked = {"a": (1, 1), "b": (9, 1), "c": (0, 1), "d": (18, 1)}
    case = by_hand(asked, 20, lambda moved: moved // 10, Options(4, prefetch=2))
    assert_same_story(case, Reference(case).run())


def test_who_is_refused_asks_again_before_who_is_answered_later():
    case = by_hand({str(number): (1, 1) for number in range(6)}, 100, lambda moved: 10, Options(1, queue=1))
    case = replace(case, arrivals_ps=None, clients=3, think_ps=1, shared=True)
    assert_same_story(case, Reference(case).run())
