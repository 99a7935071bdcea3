"""A stretch of the input folded again from an image of then, and what it gives beside what was published."""
