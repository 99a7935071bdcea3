"""Kafka, time, signals, settings, metrics, HTTP and the command line around the pipeline."""

__version__ = "0.1.0"

# For the environment, before numpy and torch are imported: matrices this small lose by threads, and the last bits of
# results depend on how many there are
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
