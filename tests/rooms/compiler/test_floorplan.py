"""Floorplans: well-formed pictures in which every unit, stage and wire is what the placement and the loads say."""

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.compiler.drawing import Disc, Drawing, Line, Polygon, Rectangle, Style, Words, fitted, width_of
from rdujax.compiler.legend import COLOURS, SHARED, Row
from tests.rooms.compiler.kernels import without_sums
from tests.rooms.compiler.samples import mlp, monarch, samples, small

SVG = "{http://www.w3.org/2000/svg}"


@cache
def fused(machine="sn40l", fn=mlp, shapes=((128, 512), (512, 1408), (512, 1408), (1408, 512))):
    structs = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    return rdu.compile(fn, *structs, machine=machine, fusion=rdu.cut_after())


def elements(svg):
    """(tag, attributes with those of the group, title, text) of every shape."""
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        for shape in group:
            title = shape.find(f"{SVG}title")
            text = "".join(shape.itertext()) if shape.tag == f"{SVG}text" else ""
            yield shape.tag.removeprefix(SVG), group.attrib | shape.attrib, "" if title is None else title.text, text


@pytest.mark.parametrize("sample", samples(), ids=str)
def test_every_unit_is_drawn_once_in_its_colour(sample):
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    for at, kernel in enumerate(program.plan.kernels):
        plan = program.floorplan(at)
        drawn = list(elements(plan.drawing().svg()))
        titles = Counter(re.sub(r", tile .*", "", title) for _, _, title, _ in drawn if title and " of " in title)
        wanted = {f"PCU of stage {s.label}": n.pcus for s, n in zip(kernel.kernel.stages, kernel.shares, strict=True)}
        wanted |= {f"PMU of buffer {b.label}": b.pmus for b in kernel.buffers}
        wanted |= {f"AGCU of {units}": agcus for units, agcus in kernel.bridges.items()}
        assert titles == wanted
        places = [title for _, _, title, _ in drawn if title and " of " in title]
        assert len(set(places)) == len(places)
        tags = {title.split()[0]: tag for tag, _, title, _ in drawn if title and " of " in title}
        assert {"PCU": "rect", "PMU": "circle", "AGCU": "polygon"}.items() >= tags.items()
        for stage, colour in zip(kernel.kernel.stages, COLOURS, strict=False):
            fills = {
                a["fill"] for _, a, title, _ in drawn if title and title.startswith(f"PCU of stage {stage.label},")
            }
            assert fills == {colour}


def test_agcus_that_streams_use_in_turn_are_drawn_once_and_said_once():
    program = without_sums(fused())
    [kernel], plan = program.plan.kernels, program.floorplan()
    assert kernel.bridges == {"streams of hbm": 15} and len(kernel.streams) == 5
    drawn = [a["fill"] for tag, a, title, _ in elements(plan.drawing().svg()) if tag == "polygon" and title]
    assert drawn == [SHARED.fill] * 15
    [shared], streams = plan.bridges, plan.streams
    assert (shared.units, shared.mark) == ("15 AGCUs", "AGCU")
    assert shared.busy == pytest.approx(sum(row.busy for row in streams)) and shared.busy <= 1
    assert {(row.units, row.mark) for row in streams} == {("hbm, in turn", "PMU")}
    lines = str(plan).splitlines()[3:]
    assert lines[0] == f"  streams of hbm: 15 AGCUs, {shared.share}" and sum("15 AGCUs" in line for line in lines) == 1
    own = rdu.compile(jnp.tanh, jax.ShapeDtypeStruct((2, 2), jnp.float32), machine="tiny").floorplan()
    assert [row.name for row in own.bridges] == ["load x", "store tanh"] and {r.mark for r in own.streams} == {"AGCU"}
    assert SHARED.fill not in {a.get("fill") for _, a, title, _ in elements(own.drawing().svg()) if title}


@pytest.mark.parametrize(
    ("busy", "said"), [(0.0, "0%"), (0.001, "<1%"), (0.0049, "<1%"), (0.0051, "1%"), (1.0, "100%")]
)
def test_what_works_a_little_is_not_said_to_be_idle(busy, said):
    assert Row("a", Style(), "1 PCU", busy, "PCU").share == f"{said} busy"


def test_loads_are_rings_and_results_are_filled():
    program = fused()
    [kernel] = program.plan.kernels
    results = {s.result for s in kernel.kernel.stages}
    paints = program.floorplan().buffers
    for buffer in kernel.buffers:
        paint = paints[buffer.label]
        assert (paint.fill in COLOURS) == (buffer.value in results)
        assert (paint.stroke in COLOURS) == (buffer.value not in results)


def test_stores_are_filled_also_those_of_what_was_loaded():
    plan = rdu.compile(lambda x: (x.T, jnp.tanh(x)), jax.ShapeDtypeStruct((16, 16), jnp.bfloat16), machine="tiny")
    paints = {row.name: row.paint for row in plan.floorplan().streams}
    assert (paints["load x"].fill, paints["load x"].stroke) == ("#ffffff", COLOURS[0])
    assert paints["store transpose"] == paints["store tanh"] == Style(COLOURS[0])


def tiny_grid(tiles, rows, columns, **more):
    facts = {"rdn.tiles": tiles, "rdn.rows": rows, "rdn.columns": columns}
    return rdu.machines.tiny().replace(facts | more)


def affine(x, w):
    return jnp.tanh(x @ w) + 1


def deep(x, w):
    for _ in range(11):
        x = jnp.tanh(x @ w)
    return x


def long_map(x):
    for _ in range(14):
        x = x * x + 1
    return x


SQUARE = ((16, 16), (16, 16))
ODD = {
    "more than nine stages": ("sn40l", deep, ((512, 512), (512, 512))),
    "a legend in columns": (
        rdu.machines.sn40l().replace({"rdn.rows": 13, "rdn.columns": 20}),
        deep,
        ((256, 256), (256, 256)),
    ),
    "long names": ("sn40l", long_map, ((512, 512),)),
    "narrow tiles": (tiny_grid(5, 2, 3), monarch, ((20, 24), (24, 20), (24, 24), (20, 24))),
    "tiles of one place": (tiny_grid(16, 1, 1), affine, SQUARE),
    "a tall tile": (tiny_grid(1, 16, 1), affine, SQUARE),
    "a wide tile": (tiny_grid(1, 1, 16, **{"agcu.count": 2}), jnp.tanh, ((16, 16),)),
    "the socket": ("sn40l", mlp, ((128, 512), (512, 1408), (512, 1408), (1408, 512))),
}


def boxes(drawing):
    """(text, left, top, right, bottom) of every line of words, measured in the font of a .png."""
    textpath = pytest.importorskip("matplotlib.textpath")
    from matplotlib.font_manager import FontProperties

    for words in (shape for shape in drawing.shapes if isinstance(shape, Words)):
        font = FontProperties(family="DejaVu Sans", weight="bold" if words.bold else "normal")
        box = textpath.TextPath((0, 0), words.text, size=words.size, prop=font).get_extents()
        left = words.x - {"start": 0, "middle": 0.5, "end": 1}[words.anchor] * box.x1
        yield words.text, left, words.y - box.y1, left + box.x1, words.y - box.y0


def apart(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("name", ODD)
def test_words_lie_on_the_sheet_and_not_on_one_another(name):
    drawing = fused(*ODD[name]).floorplan().drawing()
    words = list(boxes(drawing))
    for text, left, top, right, bottom in words:
        assert left >= 4 and top >= 4 and right <= drawing.width - 4 and bottom <= drawing.height - 4, text
    for at, (text, *box) in enumerate(words):
        assert not [other for other, *there in words[at + 1 :] if not apart(box, there)], text
    swatches = [s for s in drawing.shapes if isinstance(s, Rectangle) and s.width == s.height == 16]
    assert len(swatches) == len(fused(*ODD[name]).floorplan().stages)
    for swatch in swatches:
        own = swatch.x, swatch.y, swatch.x + 16, swatch.y + 16
        assert all(apart(own, box) for _, *box in words)


def test_narrow_tiles_tell_what_they_exchange_below_their_number():
    plan = fused(*ODD["narrow tiles"]).floorplan()
    words = [shape for shape in plan.drawing().shapes if isinstance(shape, Words)]
    texts = [w.text for w in words]
    assert "out, in: packets/cycle to and from other tiles" in texts
    crossings = plan.wires.crossings
    for tile in range(5):
        at = texts.index(f"tile {tile}")
        above = sorted((w for w in words if w.x == words[at].x and abs(w.y - words[at].y) < 40), key=lambda w: w.y)
        out, home = crossings[tile].sum() / plan.cycles, crossings[:, tile].sum() / plan.cycles
        assert [w.text for w in above] == [f"tile {tile}", f"{out:.2f} out", f"{home:.2f} in"]
    assert "out, in: packets/cycle to and from other tiles" not in [
        w.text for w in fused().floorplan().drawing().shapes if isinstance(w, Words)
    ]


def test_long_names_are_cut_and_whole_where_a_pointer_rests():
    plan = fused(*ODD["long names"]).floorplan()
    [row] = plan.stages
    [(shown, title)] = {
        (text.removeprefix(title), title) for tag, _, title, text in elements(plan.drawing().svg())
        if tag == "text" and title.startswith("mul+add")
    }  # fmt: skip
    assert title == row.name and shown.endswith("…") and row.name.startswith(shown[:-1]) and len(shown) > 25


def test_the_key_says_what_every_shape_means():
    words = [w.text for w in fused().floorplan().drawing().shapes if isinstance(w, Words)]
    for meaning in ("PCU of a stage", "PMU of a result", "PMU of a load", "AGCU of a store", "AGCU of a load",
                    "shared AGCU", "number of a stage", "faint: free"):  # fmt: skip
        assert words.count(meaning) == 1


@pytest.mark.parametrize("bold", [False, True])
def test_room_for_words_is_enough_in_a_wide_font(bold):
    textpath = pytest.importorskip("matplotlib.textpath")
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    for letter in map(chr, range(33, 127)):
        text = letter * 20
        width = textpath.TextPath((0, 0), text.replace("$", r"\$"), size=10, prop=font).get_extents().x1
        assert width <= width_of(text, 10, bold) < 3 * width, letter
    assert fitted("abc", width_of("abc", 10, bold), 10, bold) == "abc"
    cut = fitted("a" * 50, 100, 10, bold)
    assert cut.endswith("…") and width_of(cut, 10, bold) <= 100 < width_of(f"a{cut}", 10, bold)


def test_wires_carry_the_packets_that_the_loads_say():
    plan = fused().floorplan()
    hops = 0
    for tag, _, title, _ in elements(plan.drawing().svg()):
        if tag == "line" and title:
            out, home = (
                int(n.replace(",", "")) for n in re.fullmatch(r".*: ([\d,]+) and ([\d,]+) packets", title).groups()
            )
            hops += out + home
    assert hops == plan.wires.hops > 0
    words = [text for tag, _, _, text in elements(plan.drawing().svg()) if tag == "text"]
    for tile, (out, home) in enumerate(zip(plan.wires.crossings.sum(1), plan.wires.crossings.sum(0), strict=True)):
        rates = f"{out / plan.cycles:.2f} packets/cycle to other tiles, {home / plan.cycles:.2f} from them"
        assert (f"tile {tile}: {rates}" if out or home else f"tile {tile}") in words


def crowded():
    """A program that has too few links for its kernel: of half the width."""
    narrow = rdu.machines.sn40l().replace({"rdn.vector_bytes": 32})
    return fused(narrow, monarch, ((128, 1024), (1024, 128), (1024, 1024), (128, 1024)))


def test_a_wire_that_is_too_full_is_red():
    def red(plan):
        return sum(a.get("stroke") == "#d7191c" and bool(title) for _, a, title, _ in elements(plan.drawing().svg()))

    program = crowded()
    plan = program.floorplan()
    assert plan.busiest_packets_per_cycle > plan.capacity == 1 and red(plan) > 0
    roomy = program.replace(machine=program.machine.replace({"rdn.packets_per_cycle": 4})).floorplan()
    assert 0 < roomy.busiest_packets_per_cycle < roomy.capacity and red(roomy) == 0


def test_a_kernel_is_slowed_down_by_wires_that_need_more_cycles_than_it_is_priced_at():
    plan = crowded().floorplan()
    assert plan.wire_cycles["link"] == plan.wires.busiest == plan.slowed_cycles > plan.cycles
    said = f"that link slows it down to {plan.slowed_cycles:,} cycles"
    assert said in str(plan) and any(said in text for _, _, _, text in elements(plan.drawing().svg()))
    for kind, words in (("link", "that link"), ("D2D", "the die-to-die link"), ("TLN", "the top-level network")):
        for more in (0, 1):  # as many cycles are enough, one more is not
            wire_cycles = {"link": 0, "D2D": 0, "TLN": 0, kind: plan.cycles + more}
            changed = replace(plan, wire_cycles=wire_cycles)
            assert changed.slowed_cycles == plan.cycles + more
            assert (f"{words} slows it down to {plan.cycles + 1:,} cycles" in str(changed)) is bool(more)


def test_the_legend_names_every_stage_with_its_units_and_how_busy_it_is():
    program = fused()
    plan, rows = program.floorplan(), program.report().data["kernels"][0]["stages"]
    words = [text for tag, _, _, text in elements(plan.drawing().svg()) if tag == "text"]
    for row in rows:
        assert any(row["label"] in w for w in words)
        assert f"{row['busy']:.0%} busy" in words
        assert f"{row['label']}: " in str(plan) and f"{row['busy']:.0%} busy" in str(plan)
    used = f"{program.plan.kernels[0].pcus:,} of 1,040 PCUs"
    assert any(used in w for w in words) and used in str(plan)
    assert f"busiest link {plan.busiest_packets_per_cycle:.2f} packets/cycle of 1" in str(plan)


def test_both_formats_are_written(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    plan = rdu.compile(samples()[0].fn, *samples()[0].args, machine=small()).floorplan()
    root = ElementTree.parse(plan.save(tmp_path / "plan.svg")).getroot()
    pixels = image.imread(plan.save(tmp_path / "plan.png"))
    assert float(root.get("width")) / float(root.get("height")) == pytest.approx(
        pixels.shape[1] / pixels.shape[0], rel=0.01
    )
    colours = {tuple(round(255 * float(c)) for c in p[:3]) for p in pixels.reshape(-1, pixels.shape[-1])}
    stage = tuple(int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5))
    assert stage in colours and len(colours) > 20
    assert plan._repr_svg_() == (tmp_path / "plan.svg").read_text()


def test_the_same_program_is_drawn_the_same():
    assert fused().floorplan().drawing() == fused().floorplan().drawing()


def test_bad_files_and_kernels_are_refused(tmp_path):
    program = fused()
    with pytest.raises(rdu.ArgumentError, match=r"no picture format has this suffix[\s\S]*\.svg, \.png"):
        program.floorplan().save(tmp_path / "plan.jpg")
    with pytest.raises(rdu.ArgumentError, match=r"no path to write a file to[\s\S]*None"):
        program.floorplan().save(None)
    (tmp_path / "plan.svg").mkdir()
    with pytest.raises(rdu.ArgumentError, match="a folder where the file would be"):
        program.floorplan().save(tmp_path / "plan.svg")
    assert program.floorplan().save(tmp_path / "PLAN.SVG").read_text() == program.floorplan().drawing().svg()
    for kernel in (1, -1, True, "0"):
        with pytest.raises(rdu.ArgumentError, match=r"no such kernel[\s\S]*from 0 to 0"):
            program.floorplan(kernel)


def test_a_program_without_kernels_has_a_timeline_and_a_report_but_no_floorplan(tmp_path):
    program = rdu.compile(lambda x: x, jax.ShapeDtypeStruct((4, 4), jnp.bfloat16), machine="tiny")
    assert program.timeline().cycles == program.report().data["total"]["cycles_with_launches"] == 0
    assert program.timeline().save(tmp_path / "trace.json").exists()
    with pytest.raises(rdu.ArgumentError, match="none is launched"):
        program.floorplan()


def test_a_machine_without_places_has_no_floorplan():
    program = fused(
        rdu.machines.sn40l().replace({"pcu.count": 2000}), monarch, ((128, 64), (64, 128), (64, 64), (128, 64))
    )
    with pytest.raises(rdu.CapacityError, match="more PCUs than places on the grid"):
        program.floorplan()
    edges = fused(tiny_grid(1, 1, 16), affine, SQUARE)
    with pytest.raises(rdu.CapacityError, match=r"more AGCUs than switches[\s\S]*6[\s\S]*do: +replace rdn.tiles"):
        edges.floorplan()


def test_words_are_escaped_and_shapes_of_one_style_share_a_group():
    ink = Style("#000000")
    shapes = (
        Words(1, 2, "a < b & c", 9, ink, title="<&>"),
        Disc(1, 2, 3, ink),
        Rectangle(0, 0, 1, 2.5, Style("none", "#ff0000", 2)),
    )
    svg = Drawing(
        10, 20.25, (*shapes, Line(0, 0, 1, 1, Style(stroke="#00ff00", width=1)), Polygon(((0, 0), (1, 0), (0, 1)), ink))
    ).svg()
    assert [tag for tag, *_ in elements(svg)] == ["text", "circle", "rect", "line", "polygon"]
    _, attributes, title, text = next(elements(svg))
    assert (title, text) == ("<&>", "<&>a < b & c") and attributes["fill"] == "#000000"
    assert svg.count("<g ") == 4 and 'height="20.25"' in svg and 'stroke-width="2"' in svg


def test_a_picture_with_dollar_signs_is_no_formula(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    path = Drawing(200, 40, (Words(5, 25, "$x_{1$ & a$", 20, Style("#000000")),)).save(tmp_path / "words.png")
    assert image.imread(path).min() < 0.5


def test_a_long_legend_stands_in_columns_with_every_row_once():
    plan = fused(*ODD["a legend in columns"]).floorplan()
    names = [row.name for row in (*plan.streams, *plan.stages)]
    words = [w for w in plan.drawing().shapes if isinstance(w, Words) and w.title in names]
    assert len(names) > 12 and sorted(w.title for w in words) == sorted(names)
    assert sorted(Counter(w.x for w in words).values()) == [len(names) % 12 or 12, *[12] * ((len(names) - 1) // 12)]
