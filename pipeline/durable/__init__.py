"""A shard's durable form, and how it is written while events go on."""
