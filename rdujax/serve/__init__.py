"""An emulated node that answers over HTTP."""
