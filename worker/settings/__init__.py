"""What can be set, where it comes from, and the sentence that refuses it."""
