"""Kafka, time, signals, settings, metrics, HTTP and the command line around the pipeline."""

__version__ = "0.1.0"
