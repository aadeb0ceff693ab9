"""Durations for people."""


def duration(seconds: float | int) -> str:
    """Seconds for people: 9 s, 1:05, 2:03:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
    )
