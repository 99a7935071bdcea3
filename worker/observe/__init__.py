"""A worker seen from outside: its metrics, its log lines, and its pulse."""
