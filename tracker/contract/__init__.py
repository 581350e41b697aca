"""Ground floor: what both halves of the product agree on. Pure: no I/O, no clock, no randomness."""
