"""Floorplans: well-formed pictures in which every unit, stage and wire is what the placement and the loads say."""

import re
from collections import Counter
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.compiler.drawing import Disc, Drawing, Line, Polygon, Rectangle, Style, Words
from rdujax.compiler.floorplan import COLOURS
from tests.rooms.compiler.samples import mlp, monarch, samples, small

SVG = "{http://www.w3.org/2000/svg}"


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
        wanted |= {f"AGCU of {s.label}": s.agcus for s in kernel.streams}
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


def test_loads_are_rings_and_results_are_filled():
    program = fused()
    [kernel] = program.plan.kernels
    results = {s.result for s in kernel.kernel.stages}
    paints = program.floorplan().buffers
    for buffer in kernel.buffers:
        paint = paints[buffer.label]
        assert (paint.fill in COLOURS) == (buffer.value in results)
        assert (paint.stroke in COLOURS) == (buffer.value not in results)


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


def test_a_wire_that_is_too_full_is_red():
    def red(plan):
        return sum(a.get("stroke") == "#d7191c" and bool(title) for _, a, title, _ in elements(plan.drawing().svg()))

    program = fused(fn=monarch, shapes=((128, 1024), (1024, 128), (1024, 1024), (128, 1024)))
    plan = program.floorplan()
    assert plan.busiest_packets_per_cycle > plan.capacity == 1 and red(plan) > 0
    roomy = program.replace(machine=program.machine.replace({"rdn.packets_per_cycle": 4})).floorplan()
    assert roomy.busiest_packets_per_cycle == plan.busiest_packets_per_cycle < roomy.capacity and red(roomy) == 0


def test_the_legend_names_every_stage_with_its_units_and_how_busy_it_is():
    program = fused()
    plan, rows = program.floorplan(), program.report().data["kernels"][0]["stages"]
    words = [text for tag, _, _, text in elements(plan.drawing().svg()) if tag == "text"]
    for row in rows:
        assert any(row["label"] in w for w in words)
        assert f"{row['busy']:.0%} busy" in words
        assert f"{row['label']}: " in str(plan) and f"{row['busy']:.0%} busy" in str(plan)
    assert any("646 of 1,040 PCUs" in w for w in words) and "646 of 1,040 PCUs" in str(plan)
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
