"""What an exception says, in one line."""


def one_line(error: BaseException, most: int | None = None) -> str:
    """The words of an exception without line breaks, its type where it has none; cut to `most`
    letters, with three dots.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if most is None or len(text) <= most else text[: most - 3] + "..."
