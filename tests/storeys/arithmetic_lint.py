"""Which lines compute on emulated values with raw JAX instead of `rdujax.numerics`.

Every result bit comes from `numerics/` (law L1): XLA may fuse, re-associate or replace any other arithmetic. Outside
it, arrays may be moved but not computed with, so what is allowed of `jax.numpy` and `jax.lax` is listed here and all
else is refused. Code that works on sizes and not on values is told apart in four ways:

- a function that is named for a quantity (`transfer_cycles`, `price`);
- a function that is annotated to return counts or costs and no array beside them;
- a sum or product that says `dtype=jnp.int32`;
- a comment on the line that says why, `# not emulated: <reason>`. On a line of its own, not indented, such a comment
  speaks for NumPy in the whole file (a reference in float64); JAX stays forbidden there.
"""

import ast
import re
from collections.abc import Iterator

from tests.storeys.source import FunctionNode, dotted_name, true_names

# Rooms that handle values: nothing raw, on the host neither. The others handle sizes too: there only JAX is judged.
STRICT_ROOMS = ("streams", "units", "ops", "graph", "frontend", "emulate")
OTHER_ROOMS = ("estimate", "compiler", "tune", "cli")

MOVES = """
    arange asarray array array_split atleast_1d atleast_2d broadcast_arrays broadcast_shapes broadcast_to concatenate
    copy empty empty_like expand_dims flip full full_like hsplit hstack indices meshgrid moveaxis ndim ones ones_like
    pad permute_dims ravel repeat reshape roll rollaxis rot90 select shape size split squeeze stack swapaxes take
    take_along_axis tile transpose unstack vstack where zeros zeros_like
    dtype issubdtype iinfo finfo isdtype result_type ndarray newaxis inf nan
    integer floating inexact number bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64
    bfloat16 float16 float32 float64 complex64 complex128 signedinteger unsignedinteger
""".split()
LAX_MOVES = """
    broadcast broadcast_in_dim broadcasted_iota broadcast_shapes concatenate cond dynamic_index_in_dim dynamic_slice
    dynamic_slice_in_dim dynamic_update_index_in_dim dynamic_update_slice dynamic_update_slice_in_dim expand_dims
    fori_loop full gather index_in_dim iota map pad platform_dependent reshape rev scan scatter select select_n slice
    slice_in_dim split squeeze stop_gradient switch transpose while_loop with_sharding_constraint
    all_gather all_to_all axis_index axis_size ppermute
    DotDimensionNumbers GatherDimensionNumbers GatherScatterMode Precision ScatterDimensionNumbers
    ConvDimensionNumbers RoundingMethod
""".split()
FLOATS = ("bfloat16", "float16", "float32")
# The machine has no float64: a cast to it reads a result for a comparison and makes none.
INTEGERS = {"int32", "int64", "uint16", "uint32", "bool_", "bool", "int", "float64"}
RANDOM = ["bits", "fold_in", "key", "key_data", "split", "wrap_key_data"]
ALLOWED_PREFIXES = {"jax.numpy": MOVES, "jax.lax": LAX_MOVES, "jax.random": RANDOM}
REFUSED_PACKAGES = ("jax.nn", "jax.scipy", "jax.image", "jax.ops", "jax.numpy.linalg", "jax.numpy.fft", "optax", "flax")
HOST = "numpy scipy math operator ml_dtypes"
HOST_REFUSED = set(
    "dot vdot inner outer matmul einsum tensordot exp exp2 expm1 log log2 log10 log1p sqrt cbrt sin cos tan tanh"
    " sinh cosh erf erfc sum mean average std var cumsum cumprod divide true_divide truediv add multiply subtract power"
    " mul sub bfloat16 nansum nanmean".split()
)
METHODS = set("sum mean prod max min dot std var cumsum cumprod view conj trace argmax argmin".split())
UPDATES = set("add subtract multiply divide power min max apply".split())
SIZES = {"Counts", "Cost", "Violation", "Fraction"}
QUANTITY = re.compile(
    r"^_?(price|limits|counts|cost)(_|$)|(^|_)(cycles?|bytes|seconds|hz|tiles|elems|pcus|pmus|flops)$|_s$"
)
PLAIN = {"tuple", "list", "dict", "str", "int", "float", "None"}
PRAGMA = re.compile(r"#.*\bnot emulated: \S")


def computes_sizes(node: ast.AST) -> bool:
    """Whether a function is named for a quantity, or annotated to return counts or costs and no array beside them."""
    if not isinstance(node, FunctionNode):
        return False
    said = set(re.findall(r"[A-Za-z]\w*", ast.unparse(node.returns))) if node.returns else set()
    return bool(QUANTITY.search(node.name) or (said & SIZES and said <= SIZES | PLAIN))


def size_lines(tree: ast.Module) -> set[int]:
    """Lines of the functions that compute with sizes."""
    spans = [range(node.lineno, node.end_lineno + 1) for node in ast.walk(tree) if computes_sizes(node)]
    return {line for span in spans for line in span}


def integer_tallies(tree: ast.Module) -> set[ast.AST]:
    """The `jnp.sum` or `jnp.prod` of each call that states an integer result."""
    return {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("sum", "prod")
        if any(k.arg == "dtype" and ast.unparse(k.value).endswith("int32") for k in node.keywords)
    }


def refused_name(name: str) -> bool:
    """Whether a dotted name is raw arithmetic of JAX, or a package of such."""
    if any(name == package or name.startswith(package + ".") for package in REFUSED_PACKAGES):
        return True
    for prefix, allowed in ALLOWED_PREFIXES.items():
        if name.startswith(prefix + "."):
            member = name.removeprefix(prefix + ".").partition(".")[0]
            return member not in allowed and not member.endswith("_p")
    return False


def refused_cast(node: ast.Call, names: dict[str, str]) -> bool:
    """Casts to a floating format, however written: a method, a constructor, or an argument of `asarray`."""
    arguments = [each for argument in [*node.args, *(k.value for k in node.keywords)] for each in ast.walk(argument)]
    said = {each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", None) for each in arguments}
    said |= {each.value for each in arguments if isinstance(each, ast.Constant)}
    if isinstance(node.func, ast.Attribute) and node.func.attr == "astype":
        return bool(said & set(FLOATS)) or not said & INTEGERS
    member = dotted_name(node.func, names).rpartition(".")[2]
    if member in FLOATS and member != "float32":
        return True
    return member in ("asarray", "array", "full_like") and bool(said & {"bfloat16", "float16"})


def is_at(node: ast.AST) -> bool:
    """Whether a node is the `x.at[...]` of an update."""
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "at"


def refused_node(node: ast.AST, names: dict[str, str], strict: bool) -> str:
    """What is wrong with one node, or an empty string."""
    if isinstance(node, ast.BinOp | ast.AugAssign):
        if isinstance(node.op, ast.MatMult):
            return "the operator @"
        if strict and isinstance(node.op, ast.Div):
            return "the operator /"
    if isinstance(node, ast.Attribute | ast.Name) and refused_name(name := dotted_name(node, names)):
        return name
    if strict and isinstance(node, ast.Attribute):
        package, _, member = dotted_name(node, names).rpartition(".")
        if package.split(".")[0] in HOST.split() and member in HOST_REFUSED:
            return f"{package}.{member}"
    if isinstance(node, ast.Call):
        if refused_cast(node, names):
            return f"the cast {ast.unparse(node)}"
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if method in UPDATES and isinstance(node.func, ast.Attribute) and is_at(node.func.value):
            return f"the update .at[...].{method}()"
        if strict and method in METHODS and not dotted_name(node.func, names):
            return f"the method .{method}()"
    return ""


def raw_arithmetic(text: str, *, strict: bool = True) -> Iterator[str]:
    """One line for each piece of raw arithmetic in the text of a file."""
    tree = ast.parse(text)
    strict = strict and not re.search(r"^# not emulated: \S", text, re.MULTILINE)
    names, lines, exempt, tallies = true_names(tree), text.splitlines(), size_lines(tree), integer_tallies(tree)
    for node in ast.walk(tree):
        problem = refused_node(node, names, strict)
        if not problem or node.lineno in exempt or node in tallies:
            continue
        if not any(PRAGMA.search(line) for line in lines[node.lineno - 1 : node.end_lineno]):
            yield f"line {node.lineno}: {problem}"
    for line, name in {(node.lineno, alias.name) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                       for alias in node.names if refused_name(f"{node.module}.{alias.name}")}:  # fmt: skip
        yield f"line {line}: the import of {name}"
