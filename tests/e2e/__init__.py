"""A package of its own, so that what its tests share ends with them."""
