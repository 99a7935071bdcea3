"""The error that ends a command with one sentence. Imports nothing, so that every room may use it."""


def printable(text: str) -> str:
    r"""Return the text as one line that draws nothing else on a terminal, whoever chose the names in it.

    >>> print(printable("no file a\nb"))
    no file a\nb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Refusal(Exception):  # noqa: N818 - the worker declines to go on
    """Going on would be wrong and trying again would not help; the message is one sentence, the fix included."""


class WrongUsage(Refusal):
    """The command line cannot be obeyed: an option's value is wrong."""
