"""From a JAX function, or a kernel written by hand, to a graph."""
