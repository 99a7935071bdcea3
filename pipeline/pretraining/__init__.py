"""Base weights from a history: what its events gave to learn from, the training, and its score on held-out time."""
