"""The models of Table 1 as plain JAX functions of pytrees of parameters, from a test's size to the published one."""
