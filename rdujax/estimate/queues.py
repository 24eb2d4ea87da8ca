"""In which order the streams of a kernel take turns at a tier, where all is loaded slice by slice within one turn."""

from rdujax.graph.plan import MemoryStream, PlannedKernel


def queues(planned: PlannedKernel) -> dict[str, list[MemoryStream]]:
    """For every tier its streams in the order of their turns: loads as they are needed first, and then the stores."""
    found: dict[str, list[MemoryStream]] = {}
    for stream in in_order(planned):
        found.setdefault(stream.tier, []).append(stream)
    return found


def in_order(planned: PlannedKernel) -> list[MemoryStream]:
    """All streams in the order in which those of one tier take turns.

    Of the loads of one stage, that which streams by comes last: before it, the stage has everything else; and what says
    where another one lies comes before that.
    """
    needed, made = first_readers(planned), _when_made(planned)
    order = {step: i for i, step in enumerate(planned.kernel.in_order) if isinstance(step, int)}

    def place(stream: MemoryStream) -> tuple[bool, int, bool, int]:
        if stream.is_store:
            return True, made[stream.value], False, 0
        return False, needed[stream.value], planned.tiling.slices(stream.value) > 1, order[stream.value]

    return sorted(planned.streams, key=place)


def _when_made(planned: PlannedKernel) -> dict[int, int]:
    """For every value that is written, the position of the last stage that it waits for; -1 where it is a copy."""
    stages = {s.result: i for i, s in enumerate(planned.kernel.stages)}
    made: dict[int, int] = {}
    for w in planned.kernel.writes:  # an update comes after the one that it overwrites
        before = -1 if w.update is None else made.get(w.update.over, -1)
        made[w.value] = max(before, *(stages.get(r.value, -1) for r in (w.read, *w.places)))
    return made


def first_readers(planned: PlannedKernel) -> dict[int, int]:
    """For every load the position of the first stage that needs it, or needs what lies where it says.

    Behind all stages where none does.
    """
    kernel = planned.kernel
    first = dict.fromkeys(kernel.loads, len(kernel.stages))
    first |= {r.value: i for i, s in reversed(list(enumerate(kernel.stages))) for r in s.reads}
    for value in reversed([step for step in kernel.in_order if isinstance(step, int)]):
        for place in kernel.fetched[value].places if value in kernel.fetched else ():
            if place.value in first:
                first[place.value] = min(first[place.value], first[value])
    return first
