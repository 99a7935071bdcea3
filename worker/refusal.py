"""The error that ends a command with one sentence. Imports nothing, so that every room may use it."""


class Refusal(Exception):  # noqa: N818 - the worker declines to go on
    """Going on would be wrong and trying again would not help; the message is one sentence, the fix included."""


class WrongUsage(Refusal):
    """The command line cannot be obeyed: an option's value is wrong."""
