"""The schema registry: its client, and what makes readers of the schemas that it has."""
