"""The back-test's input and output: files of history, a table, a plot."""
