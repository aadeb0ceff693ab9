"""One command over several slices, each with a share of the seeds or arms and its own directory."""

from collections.abc import Sequence

from jaxreg.errors import UserErrors

BY = {"seeds": "--seeds", "arms": "--arms"}


def commands_of(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The commands in `words`: a further "--" begins the next."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            commands.append([])
        else:
            commands[-1].append(word)
    return [tuple(command) for command in commands]


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of a flag, given as `--flag=value` or `--flag value`; None without it."""
    for word, following in zip(words, [*words[1:], None], strict=False):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag:
            return following
    return None


def with_value(words: Sequence[str], flag: str, value: str) -> tuple[str, ...]:
    """The words with a flag set, in its place or at the end."""
    changed, skip, done = [], False, False
    for word in words:
        if skip:
            skip = False
        elif word == flag or word.startswith(f"{flag}="):
            skip, done = word == flag, True
            changed.append(f"{flag}={value}")
        else:
            changed.append(word)
    return tuple(changed) if done else (*changed, f"{flag}={value}")


def shared_out(
    words: Sequence[str], by: str, values: Sequence[str], slices: int
) -> list[tuple[str, ...]]:
    """One command per slice, its share of the values dealt in turn, in WORKDIR-0, WORKDIR-1, ...

    The directories lie beside one another and beside WORKDIR: members are stored by content, and a
    run finds those of neighbouring directories. So the whole command, run afterwards on WORKDIR,
    trains nothing and compares all.

    Args:
      words: the command.
      by: "seeds" or "arms".
      values: all seeds, or the arms without the baseline, which every slice trains.

    Raises:
      UserErrors: more slices than values.
    """
    if slices > len(values):
        raise UserErrors(
            [f"--slices={slices}: there are only {len(values)} {by} to share out (--split={by})"]
        )
    workdir = (value_of(words, "--workdir") or "").rstrip("/")
    commands = []
    for index in range(slices):
        share = ",".join(values[index::slices])
        # A single number would be read as a count.
        share += "," if by == "seeds" and "," not in share else ""
        shared = with_value(words, BY[by], share)
        commands.append(with_value(shared, "--workdir", f"{workdir}-{index}"))
    return commands
