"""What is kept to learn from, one update as a pure function, and whether its weights are worth having."""
