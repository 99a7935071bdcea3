"""One life of a shard on this worker: restored from the changelog, then live, then dropped; never repaired."""
