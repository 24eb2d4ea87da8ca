"""Units of the RDU as pure functions over streams, one file each."""
