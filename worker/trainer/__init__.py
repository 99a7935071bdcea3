"""The process beside the worker that makes fine-tune updates, and the loop's end of it. Needs nothing of the loop."""
