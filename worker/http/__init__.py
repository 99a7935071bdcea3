"""Metrics, health and status over HTTP, and the container's own health probe."""
