"""The synthetic part of the built-in corpus: families of series, as many of each, the same from the same seed."""
