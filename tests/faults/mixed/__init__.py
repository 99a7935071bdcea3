"""Faults of every kind in random order against one group of workers, and an audit of everything at the end."""
