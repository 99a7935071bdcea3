"""Everything that talks to Kafka; the only sub-package that imports its client."""
