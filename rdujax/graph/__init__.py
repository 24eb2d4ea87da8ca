"""The program as data: graphs, kernels, plans."""
