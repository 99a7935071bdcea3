"""What a back-test reads and shows: files of history, a table, a plot."""
