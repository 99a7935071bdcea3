"""Base weights from history: files or the input read, a training that can be interrupted, its report and checkpoint."""
