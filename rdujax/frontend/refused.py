"""Primitives that have no rule, and why; what is in neither table is not known here, and is refused as that."""

_HOST = ("it calls the host in the middle of a program", "return the value, and look at it outside")
_SOLVER = (
    "factorisations and solvers depend on values at every step and have no place in a pipeline of tiles",
    "solve outside of the program, or write the method with products and loops",
)
_SPECIAL = (
    "there is no table or algorithm of known error for this special function",
    "write it with functions that are there, or compute it outside",
)
_STATE = ("it reads or writes a reference, and a program has no state", "pass the value in and return the new one")
_EFFECT = ("it orders effects, and a program has none", "leave it out")
_GENERATOR = (
    "another generator of random numbers than Threefry by keys", "use jax.random with keys of threefry2x32"
)  # fmt: skip
_SOCKETS = (
    "a program is that of one socket on its parts, and here is more around it",
    "make jax.shard_map the whole of the function, and put what is around it inside",
)
_RAGGED = ("what is sent depends on values", "send parts of equal size: jax.lax.all_to_all")
_EXTREMES = ("selection by a function of its own", "use reduce_window with max or min, and its gradient")

# name: (reason, what to do)
REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("debug_callback", "debug_print", "io_callback", "pure_callback", "infeed", "outfeed"), _HOST),
    **dict.fromkeys(
        ("cholesky", "cholesky_update", "custom_linear_solve", "eig", "eigh", "geqrf", "hessenberg",
         "householder_product", "lu", "lu_pivots_to_permutation", "qr", "schur", "svd", "triangular_solve",
         "tridiagonal", "tridiagonal_solve"),
        _SOLVER,
    ),
    **dict.fromkeys(
        ("bessel_i0e", "bessel_i1e", "digamma", "igamma", "igamma_grad_a", "igammac", "lgamma", "polygamma",
         "random_gamma", "regularized_incomplete_beta", "zeta"),
        _SPECIAL,
    ),
    **dict.fromkeys(("addupdate", "empty_ref", "get", "new_ref", "swap"), _STATE),
    **dict.fromkeys(("after_all", "create_token"), _EFFECT),
    **dict.fromkeys(("rng_bit_generator", "rng_uniform"), _GENERATOR),
    "approx_top_k": ("how far it is from the largest is left open", "use jax.lax.top_k"),
    "ragged_all_to_all": _RAGGED,
    "scaled_dot": ("products of 8- and 4-bit numbers with scales", "scale, and multiply in bfloat16"),
    "select_and_scatter": _EXTREMES,
    "shard_map": _SOCKETS,
}  # fmt: skip
