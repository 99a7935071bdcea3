"""Events in, forecasts out: a shard is a fold over its partition's log. Knows no Kafka, no clock, no environment."""
