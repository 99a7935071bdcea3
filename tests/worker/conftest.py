"""Fixtures that several rooms of the worker's tests share."""

from tests.rigs.clock import clock, wall

__all__ = ["clock", "wall"]
