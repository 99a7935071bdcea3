"""Metrics, health, status and the API of streams over HTTP, and the container's own health probe."""
