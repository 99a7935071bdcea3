"""Dead letters read again: which there are, what each holds, and those that are sent to the input once more."""
