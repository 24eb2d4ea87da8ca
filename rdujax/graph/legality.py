"""The grammar of a plan: what the compiler may hand to those who run and price it.

    memory    a step reads what is there: inputs, constants, what steps before it left and none overwrote; every value
              there has a tier, and values with a tier are there
    kernels   every node is computed by a kernel that has it, each stage reads loads and results of stages before it,
              as do loads that look up their place, and gives the type that its operation infers; writes deliver the
              type of what they write
    tilings   every loop walks each result of its kernel along one axis, and what a stage reads of a value that was made
              in the same turn is of the same turn: the operation or pattern walks along that axis one to one. So does
              an inner loop, with the result of one stage and one load. A sum reads all of its operands tile by tile
              along the axes that it may add them up along, and what comes behind the last turn reads nothing that walks
    units     a share for each stage, a buffer for each value on chip, a stream for each load and write

A break of it would be a mistake of the compiler and not of its user.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from rdujax.base.errors import ArgumentError, describe
from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Fetch, Kernel, Read, Stage, Write
from rdujax.graph.plan import Loop, Plan, PlannedKernel, PlannedRegion
from rdujax.numerics.formats import BF16
from rdujax.ops.move import Move
from rdujax.ops.op import TensorType
from rdujax.streams.access import chain_axes
from rdujax.units.memory import TIERS


def check(plan: Plan) -> None:
    """Raises ArgumentError for a plan, or one of a body inside of it, that breaks the grammar."""
    _check(plan, plan.given_away)


def _check(plan: Plan, given_away: Collection[int]) -> None:
    graph = plan.graph
    there, gone = {*graph.inputs, *graph.constants}, set()
    computed: Counter[int] = Counter()
    _refuse("tiers that do not exist", sorted(set(plan.tiers.values()) - set(TIERS)))
    for step in plan.steps:
        if isinstance(step, PlannedRegion):
            _check_region(step, there)
            there |= set(step.node.results)
            computed.update(step.node.results)
            taken = set(step.overwritten.values())
        else:
            _check_kernel(plan, step, there)
            there |= {write.value for write in step.kernel.writes}
            computed.update(node.result for node in step.kernel.nodes)
            taken = set(step.kernel.overwritten.values())
        there -= taken
        gone |= taken
        _refuse("arguments that are overwritten", sorted(taken & {*graph.inputs, *graph.constants} - {*given_away}))
    _refuse("outputs that no step leaves in memory", sorted(set(graph.outputs) - there))
    _refuse("values in memory without a tier, or with one and not there", sorted((there | gone) ^ plan.tiers.keys()))
    # Operator by operator, a view is a part of every kernel that reads through it, or of none where nothing does.
    once = {v for node in graph.nodes if not (isinstance(node.op, Move) and node.op.is_view) for v in node.results}
    _refuse("nodes that are not computed once", sorted(v for v in once if computed[v] != 1))


def _check_region(step: PlannedRegion, there: set[int]) -> None:
    _refuse(f"operands that are not in memory, of {step.node.label}", sorted(set(step.node.operands) - there))
    if [plan.graph for plan in step.plans] != list(step.op.bodies):
        raise ArgumentError(describe("a region whose plans are not those of its bodies", given=step.node.label))
    for plan in step.plans:
        _check(plan, plan.graph.inputs)  # what may be done to them is decided outside


def _check_kernel(plan: Plan, planned: PlannedKernel, there: set[int]) -> None:
    graph, kernel, where = plan.graph, planned.kernel, f"kernel {planned.kernel.name}"
    _refuse("loads that are not in memory", sorted(set(kernel.sources) - there), where)
    _refuse("parts that are not loaded", sorted(kernel.fetched.keys() - set(kernel.loads)), where)
    ordered = [step for step in kernel.in_order if isinstance(step, int)]
    _refuse("loads whose place nothing says", sorted(set(kernel.loads) - set(ordered)), where)
    known: set[int] = set()
    for step in kernel.in_order:
        if isinstance(step, int):
            _check_load(graph, kernel, step, where)
            known.add(step)
            continue
        stage = step
        _refuse(f"reads of what is not there, of stage {stage.label}", _unknown(stage.reads, known), where)
        kind, inferred = graph.types[stage.result], stage.op.infer(*stage.operands(graph))
        if kind != inferred or stage.result in known:
            raise ArgumentError(
                describe(
                    "a stage of another type, or a second one of its result", given=kind, allowed=inferred, where=where
                )
            )
        known.add(stage.result)
    reads = [read for write in kernel.writes for read in (write.read, *write.places)]
    _refuse("writes of what is not there", _unknown(reads, known), where)
    taken = [v for v in kernel.overwritten.values() if v not in kernel.overwritten]
    _refuse("what is overwritten is not in memory, or is read as it was", sorted(set(taken) - there), where)
    for write in kernel.writes:
        delivered = write.kind(graph)
        if write.update is not None:
            over, places = graph.types[write.update.over], [_type_of(graph, place) for place in write.places]
            delivered = write.update.op.infer(*write.operands(over, delivered, places))
        if delivered != graph.types[write.value]:
            raise ArgumentError(
                describe("a write of another type", given=delivered, allowed=graph.types[write.value], where=where)
            )
    _check_tiling(graph, planned, where)
    _check_units(plan, planned, where)


def _check_load(graph: Graph, kernel: Kernel, value: int, where: str) -> None:
    """Whether a part of what is in memory has the type that its value has."""
    fetch = kernel.fetched.get(value)
    if fetch is None:
        return
    whole, *places = fetch.operands(graph)
    inferred = whole if fetch.op is None else fetch.op.infer(whole, *places)
    if inferred != graph.types[value]:
        raise ArgumentError(describe("a part of another type", given=graph.types[value], allowed=inferred, where=where))


def _unknown(reads: Sequence[Read], known: set[int]) -> list[int]:
    return sorted({read.value for read in reads} - known)


def _check_tiling(graph: Graph, planned: PlannedKernel, where: str) -> None:
    kernel, made = planned.kernel, {stage.result for stage in planned.kernel.stages}
    for loop in planned.tiling.loops:
        axes = dict(loop.members)
        wrong = [f"%{v}.{axis}" for v, axis in sorted(loop.members) if graph.types[v].shape[axis] != loop.length]
        _refuse(f"axes that are not {loop.length} long", wrong, where)
        if len(axes) != len(loop.members) or not 1 <= loop.tile <= loop.length:
            raise ArgumentError(describe("a loop along two axes of one value, or in no tiles", given=loop, where=where))
        tiling = planned.tiling
        results = {write.walking for write in kernel.writes if not tiling.is_late(write)}
        _refuse("results that a loop does not walk", sorted((results | made - tiling.whole) - axes.keys()), where)
        for stage in kernel.stages:
            if stage.result in axes:
                _check_stage(graph, stage, loop, axes, made, where)
            elif stage.result in tiling.sums:
                _check_sum(graph, stage, axes, where)
            else:
                walking = sorted({read.value for read in stage.reads} & axes.keys())
                _refuse(f"what is made once, of what walks ({stage.label})", walking, where)
        for fetch in kernel.fetches:
            _check_places(graph, fetch, loop, axes, made, where)
        for write in kernel.writes:
            if not tiling.is_late(write):
                _check_write(graph, write, axes, made, where)
    _check_behind(planned, where)
    for loop in planned.tiling.inner:
        _check_slices(graph, planned, loop, where)
    nest = (*planned.tiling.loops, *planned.tiling.inner)
    walked = Counter(member for loop in nest for member in loop.members)
    _refuse("axes that two loops walk", [f"%{v}.{axis}" for (v, axis), n in sorted(walked.items()) if n > 1], where)
    elsewhere = planned.tiling.resident - set(kernel.loads) - made
    _refuse("values kept on chip that are neither loaded nor made", sorted(elsewhere), where)
    moving = sorted({v for v, _ in walked} & planned.tiling.whole & made)
    _refuse("results kept on chip that walk along a loop", moving, where)


def _check_sum(graph: Graph, stage: Stage, axes: dict[int, int], where: str) -> None:
    """Whether a stage that adds up turn by turn reads all of its operands along the axes that it may."""
    along = stage.op.sums(*(read.shape(graph) for read in stage.reads))
    if not along:
        raise ArgumentError(describe("a sum that no turn can add to", given=stage.op, where=where))
    for read, axis in zip(stage.reads, along, strict=True):
        delivered, merged = chain_axes(read.chain, graph.types[read.value].shape)
        cut = axes.get(read.value)
        if cut is None or cut in merged or [i for i, of in enumerate(delivered) if of == cut] != [axis]:
            given = f"{read}, cut along axis {cut}"
            raise ArgumentError(describe("a sum over other parts than the turns have", given=given, where=where))


def _check_behind(planned: PlannedKernel, where: str) -> None:
    """Whether sums are complete before they are read, and are those of the one loop."""
    tiling, kernel = planned.tiling, planned.kernel
    if tiling.sums and (len(tiling.loops) != 1 or tiling.turns == 1):
        raise ArgumentError(describe("sums over the turns of more or less than one loop", given=tiling, where=where))
    made = [stage.result for stage in kernel.stages]
    kinds = Counter([*tiling.resident, *tiling.sums, *tiling.late])
    wrong = [v for v, n in kinds.items() if n > 1 or (v in tiling.sums | tiling.late and v not in made)]
    _refuse("results that are made in two ways, or not at all", sorted(wrong), where)
    walking = {v for loop in tiling.loops for v, _ in loop.members}
    behind = tiling.sums | tiling.late
    early = [s.label for s in kernel.stages if s.result not in tiling.late and any(r.value in behind for r in s.reads)]
    early += [f"%{f.value}" for f in kernel.fetches if any(place.value in behind for place in f.places)]
    turning = [write for write in kernel.writes if not tiling.is_late(write)]
    early += [f"%{w.value}" for w in turning if any(place.value in behind for place in w.places)]
    _refuse("what reads sums before they are complete", early, where)
    after = [write for write in kernel.writes if tiling.is_late(write)]
    over = {write.value for write in after}
    torn = [w for w in after if w.value in walking or any(place.value in walking for place in w.places)]
    torn += [w for w in turning if w.update is not None and w.update.over in over]
    _refuse("writes behind all turns that turns cut or overwrite", list(map(str, torn)), where)
    late = [s.label for s in kernel.stages if s.result in tiling.late and not any(r.value in behind for r in s.reads)]
    _refuse("what is made behind all turns of nothing that is", late, where)


def _check_slices(graph: Graph, planned: PlannedKernel, loop: Loop, where: str) -> None:
    """Whether an inner loop walks one result and the one load that it is made of slice by slice, one to one."""
    axes, loads = dict(loop.members), set(planned.kernel.loads)
    stages = [stage for stage in planned.kernel.stages if stage.result in axes]
    if len(stages) != 1 or len(axes) != 2 or len(axes.keys() & loads) != 1:
        raise ArgumentError(describe("slices that are not of one stage and one load", given=loop, where=where))
    wrong = [f"%{v}.{axis}" for v, axis in sorted(loop.members) if graph.types[v].shape[axis] != loop.length]
    _refuse(f"axes that are not {loop.length} long", wrong, where)
    _check_stage(graph, stages[0], loop, axes, set(), where)


def _check_stage(graph: Graph, stage: Stage, loop: Loop, axes: dict[int, int], made: set[int], where: str) -> None:
    walks = stage.op.walks(*(read.shape(graph) for read in stage.reads))
    for read, along in zip(stage.reads, walks, strict=True):
        _check_read(graph, read, along, axes[stage.result], axes, read.value in made, f"{where}, stage {stage.label}")


def _type_of(graph: Graph, read: Read) -> TensorType:
    return TensorType(read.shape(graph), graph.types[read.value].fmt)


def _check_write(graph: Graph, write: Write, axes: dict[int, int], made: set[int], where: str) -> None:
    """Whether one turn writes what was made in it, and an update only where its parts may be written in any order."""
    if write.update is None:
        along = tuple(range(len(graph.types[write.value].shape)))
        _check_read(graph, write.read, along, axes[write.value], axes, write.read.value in made, where)
        return
    delivered, merged = chain_axes(write.read.chain, graph.types[write.read.value].shape)
    cut = axes[write.read.value]
    whole = [i for i, axis in enumerate(delivered) if axis == cut and write.is_whole_along(graph, i)]
    if cut in merged or cut not in delivered or whole or any(place.value in axes for place in write.places):
        raise ArgumentError(describe("an update that is cut where its order matters", given=write, where=where))


def _check_places(graph: Graph, fetch: Fetch, loop: Loop, axes: dict[int, int], made: set[int], where: str) -> None:
    """Whether what says where the part of one turn lies is of the same turn, and small slices are whole."""
    walks, axis = fetch.walks(graph), axes.get(fetch.value)
    if axis is not None and fetch.slice_bytes and axis not in {along for each in walks for along in each}:
        raise ArgumentError(describe("a small slice that is cut", given=fetch, where=where))
    for read, along in zip(fetch.places, walks, strict=True):
        if read.value in axes and axis is None:
            raise ArgumentError(describe("places of a turn for a load of all turns", given=fetch, where=where))
        if axis is not None:
            _check_read(graph, read, along, axis, axes, read.value in made, f"{where}, load %{fetch.value}")


def _check_read(
    graph: Graph,
    read: Read,
    along: Sequence[int | None],
    result_axis: int,
    axes: dict[int, int],
    is_made: bool,
    where: str,
) -> None:
    """Whether one turn's part of a result needs of a value the part of the same turn only.

    along: for each delivered axis, the axis of the result that it walks. A value that is loaded may also be whole.
    """
    if read.value not in axes:
        return
    delivered, merged = chain_axes(read.chain, graph.types[read.value].shape)
    cut = axes[read.value]
    same = [along[i] for i, axis in enumerate(delivered) if axis == cut]
    if cut in merged or same != [result_axis]:
        made = "made in the kernel" if is_made else "loaded"
        raise ArgumentError(describe("a read across turns", given=f"{read}, {made}, cut along axis {cut}", where=where))


def _check_units(plan: Plan, planned: PlannedKernel, where: str) -> None:
    kernel = planned.kernel
    loads, writes = list(kernel.loads), [write.value for write in kernel.writes]
    held = [*loads, *(stage.result for stage in kernel.stages)]
    streams = [(s.value, s.is_store, s.tier) for s in planned.streams]
    wanted = [(v, False, plan.tiers.get(kernel.source(v))) for v in loads] + [
        (v, True, plan.tiers.get(v)) for v in writes
    ]
    if len(planned.shares) != len(kernel.stages) or [b.value for b in planned.buffers] != held or streams != wanted:
        raise ArgumentError(describe("units for other stages, buffers or streams than there are", given=where))
    wide = [v for v in planned.wide if v not in held[len(loads) :] or plan.graph.types[v].fmt is not BF16]
    _refuse("values kept wide that are no BF16 results", sorted(wide), where)


def _refuse(problem: str, found: Sequence[object], where: str = "") -> None:
    if found:
        raise ArgumentError(describe(problem, given=", ".join(map(str, found)), where=where))
