"""Runs `pipeline ...` in this process: as quick as its work, where imports and signals do not matter.

What it would start with `python -m` is forked from a warm process.
"""

import contextlib
import io
import subprocess
import sys
from unittest.mock import patch

from forks import forking

from pipeline.__main__ import main


def pipeline_here(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Return exit code, output and errors of a command, as `subprocess.run` would."""
    words = ["pipeline", *map(str, arguments)]
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
        patch.object(sys, "argv", words),
        # It is for the whole process.
        patch("pipeline.__main__.make_library_messages_visible"),
        forking(),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return subprocess.CompletedProcess(words, int(code or 0), output.getvalue(), errors.getvalue())
