"""The demo and what tests share with it: local Kafka, real data, an auditor. Nothing that a worker imports."""
