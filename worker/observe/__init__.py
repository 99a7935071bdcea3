"""What is seen of a worker from outside: metrics, log lines, and its pulse."""
