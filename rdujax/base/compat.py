"""The only file that touches what JAX does not promise to keep.

Second-tier API (`jax.extend`) is imported here and nowhere else, and what differs between the oldest supported
JAX (0.10.2, the newest for Python 3.11) and the newest is decided here.
"""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.core
from jax.extend import core as _core
from jax.extend import source_info_util as _source

Literal = _core.Literal
Var = _core.Var

_JAX = str(Path(jax.__file__).parent) + os.sep
_LIBRARY = str(Path(__file__).parents[1]) + os.sep
_COMMANDS = os.path.join(_LIBRARY, "cli", "")


def trace(fn: Callable[..., Any], *args: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """(jaxpr, constants, output shapes) of `fn` at the shapes and dtypes of `args`, without running it."""
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    return (*open_jaxpr(closed), shapes)


def open_jaxpr(jaxpr: Any) -> tuple[Any, tuple[Any, ...]]:
    """The open jaxpr and its constants, of a closed or an open one (the newest JAX merges both classes)."""
    return getattr(jaxpr, "jaxpr", jaxpr), tuple(getattr(jaxpr, "consts", ()) or ())


def expansion(eqn: Any) -> Any:
    """What an equation of a primitive of high level stands for, a closed jaxpr at the place of the equation.

    JAX 0.12 has searches of `jax.numpy` as such (`jax.experimental.hijax.HiPrim`), which say by `expand` what they are.
    """
    primitive = eqn.params["_prim"]

    def expanded(*leaves: Any) -> Any:
        return primitive.expand(*jax.tree.unflatten(primitive.in_tree, leaves))

    given = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    with _source.user_context(eqn.source_info.traceback):
        return jax.make_jaxpr(expanded)(*given)


def scan_counts(parameters: Mapping[str, Any]) -> tuple[int, int]:
    """How many constants and how much carry a `scan` has, from its parameters (JAX 0.11 keeps them in a tree)."""
    if "num_consts" in parameters:
        return parameters["num_consts"], parameters["num_carry"]
    consts, carry, _ = parameters["ft_in"].unpack()
    return len(consts), len(carry)


def source_line(eqn: Any) -> str:
    """The user's source position of an equation as "file:line (function)", or "" where JAX does not tell.

    JAX passes over its own files; this library's are passed over here, but for its commands, whose functions are users.
    """
    try:
        line = _source.summarize(eqn.source_info)
        if not _is_ours(line):
            return line
        frames = eqn.source_info.traceback.frames
        found = (f for f in frames if not f.file_name.startswith(_JAX) and not _is_ours(f.file_name))
        return next((f"{f.file_name}:{f.line_num} ({f.function_name})" for f in found), line)
    except Exception:  # the summary is a courtesy for reports and errors: its absence must not stop a compilation
        return ""


def frames(eqn: Any) -> Sequence[tuple[Any, int]]:
    """The Python frames that made an equation as (code, instruction), the innermost first; () where JAX kept none."""
    try:
        return tuple(zip(*eqn.source_info.traceback.raw_frames(), strict=True))
    except Exception:  # as for the source line: what is not kept must not stop a compilation
        return ()


def source_function(eqn: Any) -> tuple[str, str]:
    """(file, name) of the function that a call's sub-program was traced from; ("", "") where JAX does not tell."""
    inner = next((eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params), None)
    info = getattr(getattr(open_jaxpr(inner)[0], "debug_info", None), "func_src_info", None) or ""
    name, _, place = info.partition(" at ")
    return place.rpartition(":")[0], name


def is_of_jax(file: str) -> bool:
    """Whether a file is one of JAX's own."""
    return file.startswith(_JAX)


def place_in_jax(file: str) -> str:
    """The place of a file among the sources of JAX ("nn/functions.py"), or "" where it is none of them."""
    sources = os.path.join(_JAX, "_src", "")
    return file.removeprefix(sources) if file.startswith(sources) else ""


@lru_cache
def package_folder(name: str) -> str:
    """The folder of an installed package with a separator at its end, or "" where it is not there; imports nothing."""
    found = find_spec(name)
    return os.path.join(found.submodule_search_locations[0], "") if found and found.submodule_search_locations else ""


def _is_ours(file: str) -> bool:
    return file.startswith(_LIBRARY) and not file.startswith(_COMMANDS)


def scope(eqn: Any) -> str:
    """The names of the `jax.named_scope`s around an equation, joined by "/"."""
    return str(getattr(eqn.source_info, "name_stack", "") or "")


def dtype_of(atom: Any) -> Any:
    """The dtype of a variable or literal of a jaxpr."""
    return atom.aval.dtype


def explicit_axes(mesh: Any) -> tuple[str, ...]:
    """The axes of a mesh that are of type Explicit: how an array is laid out over them is a part of its type."""
    named = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in named if kind is jax.sharding.AxisType.Explicit)


def explicit_sharding(x: Any) -> Any:
    """How an array or struct is laid out over a mesh with explicit axes, a NamedSharding; None where its type has none.

    What else has a shape and a dtype, but is none of JAX's or NumPy's arrays, has no layout.
    """
    known = isinstance(x, jax.Array | jax.ShapeDtypeStruct)
    sharding = jax.typeof(x).sharding if known else None
    return sharding if sharding is not None and explicit_axes(sharding.mesh) else None


def explicit_mesh(*arrays: Any) -> Any:
    """The mesh with an axis of type Explicit that is set, or that one of the arrays is laid out over; or else None."""
    laid = (explicit_sharding(x) for x in arrays)
    meshes = (jax.sharding.get_abstract_mesh(), *(each.mesh for each in laid if each is not None))
    return next((mesh for mesh in meshes if explicit_axes(mesh)), None)


def automatic(mesh: Any) -> Any:
    """The mesh of the same devices whose axes are all left to XLA; None of an abstract mesh that is not the one set."""
    if not isinstance(mesh, jax.sharding.Mesh):
        try:
            there = jax.sharding.get_mesh()
        except ValueError:  # inside of a jit, JAX tells no devices
            return None
        if there.empty or there.abstract_mesh != mesh:
            return None
        mesh = there
    return jax.sharding.Mesh(mesh.devices, mesh.axis_names, (jax.sharding.AxisType.Auto,) * len(mesh.axis_names))


def with_automatic_axes(
    fn: Callable[..., Any], laid: Callable[[Any], Any] = lambda mesh: jax.sharding.PartitionSpec()
) -> Callable[..., Any]:
    """`fn` with the explicit axes of its arguments' mesh, or of the one that is set, left to XLA inside.

    Such axes ask each reshape and slice how it is laid out, which is no part of a program's meaning. laid: how the
    results are laid out over that mesh, whole on every device by default.
    """

    def run(*args: Any) -> Any:
        mesh = explicit_mesh(*jax.tree.leaves(args))
        if mesh is None:
            return fn(*args)
        with jax.sharding.use_abstract_mesh(mesh):
            return jax.sharding.auto_axes(fn, out_sharding=laid(mesh))(*args)

    return run


def is_dot_algorithm(precision: Any) -> bool:
    """True where the precision of a `dot_general` names an algorithm, and not merely how exact it should be."""
    named = isinstance(precision, jax.lax.DotAlgorithm | jax.lax.DotAlgorithmPreset)
    return named and precision is not jax.lax.DotAlgorithmPreset.DEFAULT


def is_reference(x: Any) -> bool:
    """True for a reference to mutable memory, a `jax.Ref`."""
    return isinstance(x, jax.Ref)


def user_frame(error: BaseException) -> str:
    """The user's line at which an error arose as "file:line (function)", or "" where none is among its frames.

    That is the innermost frame that is neither of JAX and Flax nor of this library.
    """
    skipped = (_JAX, package_folder("flax") or _JAX)
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith(skipped) and not _is_ours(file):
            found = f"{file}:{line} ({frame.f_code.co_qualname})"
    return found


def is_tracer(x: Any) -> bool:
    """True for a value that JAX is tracing, of which only shape and dtype are known."""
    return isinstance(x, jax.core.Tracer)


def fast_math() -> bool:
    """True if XLA_FLAGS lets XLA re-associate sums on CPUs (xla_cpu_enable_fast_math, which is off by default).

    Read while a function is traced. The same licence as an option of one jit cannot be seen from inside it.
    """
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):  # XLA then takes it for the name of a file that holds the flags
        file = Path(flags)
        flags = file.read_text() if file.is_file() else ""
    licensed = False
    for flag in flags.split():
        name, _, value = flag.strip("'\"").lstrip("-").partition("=")
        if name == "xla_cpu_enable_fast_math":
            licensed = value.lower() not in ("false", "0")
    return licensed
