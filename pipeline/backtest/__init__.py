"""The same engine over records that are already there, learning inline, and scores of what it forecast."""
