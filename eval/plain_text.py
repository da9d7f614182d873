"""Tables as plain text, for a terminal or a log file."""

from io import StringIO

from rich.console import Console


def plain_console(stream: StringIO, width: int) -> Console:
    """A console without colours that reads nothing into what it prints.

    Names of runs, tasks and classes are anybody's: ``lr[red]1e-3``, ``[/sad]``, ``:sad:``.
    """
    return Console(
        file=stream,
        width=width,
        color_system=None,
        force_terminal=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
