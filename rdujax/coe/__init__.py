"""The Composition of Experts: experts in DDR and HBM, routing, switching, serving."""
