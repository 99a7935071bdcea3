"""A worker seen from outside: its metrics, its log lines, its pulse, and the recent past of its streams."""
