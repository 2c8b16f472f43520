"""Start the program of `doctor` on every node, and exchange a line with each of them.

All nodes are started and asked at the same time. One that does not answer in time is reported, not
waited for.
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Generic, TypeVar, cast

from pipeline.cluster.launch import LaunchKind, program_environment
from pipeline.errors import UserError, one_line
from pipeline.work.node_reports import NodeQuestion

PROGRAM = "pipeline.cluster.doctor.node_program"
"""Module that each node runs, as `python -m`."""
WAIT_SECONDS = 0.2
"""Time between two looks for answers."""
END_SECONDS = 5.0
"""Time for a launcher to end after its input was closed, before it is killed."""
MESSAGE_LINES = 20
"""Last lines of a launcher's messages that are kept."""
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Answer(Generic[AnswerT]):
    """What a node answered."""

    content: AnswerT | None
    """The answer; None where none came."""
    problem: str
    """Why none came; empty where one did."""
    received: float
    """When it arrived or was given up, seconds of the epoch."""


class NodeProgram:
    """The program on one node, behind its launcher: a process here, ssh or srun."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=program_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C reaches only this command, which then closes their input.
            start_new_session=True,
        )
        self._lines: queue.Queue[tuple[str, float]] = queue.Queue()
        self._messages: deque[str] = deque(maxlen=MESSAGE_LINES)
        self._readers = [
            _read_in_background(self._process.stdout, self._keep_line),
            _read_in_background(self._process.stderr, self._messages.append),
        ]

    def _keep_line(self, line: str) -> None:
        # A login shell or a launcher may print lines of its own.
        if line.startswith("{"):
            self._lines.put((line, time.time()))

    def next_line(self) -> tuple[str, float] | None:
        """Return a line and when it was received; None where there is none yet."""
        with suppress(queue.Empty):
            return self._lines.get_nowait()
        return None

    def why_it_ended(self) -> str | None:
        """Return the last message of a launcher that has ended; None while it runs."""
        if self._process.poll() is None:
            return None
        for reader in self._readers:
            reader.join(1)
        if not self._lines.empty():
            return None
        messages = [line.strip() for line in self._messages if line.strip()]
        last = "it printed no message"
        if messages:
            last = one_line(Exception(messages[-1]))
        return f"ended with exit code {self._process.returncode}: {last}"

    def ask(self, question: Mapping[str, object]) -> None:
        """Send a line; a program that has ended is noticed by its missing answer."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def close_input(self) -> None:
        """Close the program's standard input, upon which it ends."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def end(self, until: float) -> None:
        """Wait for the launcher's end until a time of the monotonic clock, then kill it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, until - time.monotonic()))
        self._process.kill()
        self._process.wait()


def _read_in_background(stream: IO[str] | None, keep: Callable[[str], object]) -> threading.Thread:
    assert stream is not None

    def read() -> None:
        for line in stream:
            keep(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


class Nodes:
    """The programs of all nodes; leaving the context ends them."""

    def __init__(self, kind: LaunchKind, questions: Mapping[str, NodeQuestion]) -> None:
        """Take the first question to each node, by the node's name.

        Entering the context raises UserError where the launcher is not installed.
        """
        self._programs: dict[str, NodeProgram] = {}
        self._kind = kind
        self._questions = questions

    def __enter__(self) -> "Nodes":
        for node, question in self._questions.items():
            program = [sys.executable, "-m", PROGRAM, json.dumps(question)]
            command = self._kind.node_command(node, program)
            try:
                self._programs[node] = NodeProgram(command)
            except FileNotFoundError:
                raise UserError(
                    f"{command[0]} is not installed here, so no node can be looked at; install it, "
                    "or run this where training is started"
                ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in self._programs.values():
            program.close_input()
        until = time.monotonic() + END_SECONDS
        for program in self._programs.values():
            program.end(until)

    def ask(self, node: str, question: Mapping[str, object]) -> None:
        """Send another question to a node."""
        self._programs[node].ask(question)

    def answers(
        self, nodes: Sequence[str], form: type[AnswerT], seconds: float, tick: Callable[[], None]
    ) -> dict[str, Answer[AnswerT]]:
        """Return the next answer of each of some nodes, which have `seconds` together.

        `form` is the type of the answers. `tick` is called while they are waited for.
        """
        answers: dict[str, Answer[AnswerT]] = {}
        until = time.monotonic() + seconds
        while len(answers) < len(nodes):
            for node in nodes:
                if node in answers:
                    continue
                answer = self._answer_of(node, form)
                if answer is None and time.monotonic() > until:
                    answer = Answer[AnswerT](None, f"no answer within {seconds:.0f} s", time.time())
                if answer is not None:
                    answers[node] = answer
            tick()
            time.sleep(WAIT_SECONDS)
        return {node: answers[node] for node in nodes}

    def _answer_of(self, node: str, form: type[AnswerT]) -> Answer[AnswerT] | None:
        """Return what has come from a node; None while it may still answer."""
        program = self._programs[node]
        line = program.next_line()
        if line is not None:
            text, received = line
            return _parsed(text, form, received)
        why = program.why_it_ended()
        if why is None:
            return None
        return Answer(None, why, time.time())


def _parsed(text: str, form: type[AnswerT], received: float) -> Answer[AnswerT]:
    """Return the answer in a line; a node with other code may have written another form."""
    try:
        content: AnswerT = json.loads(text)
    except ValueError:
        return Answer(None, f"an answer that is no JSON: {text[:80]!r}", received)
    missing = sorted(set(form.__annotations__) - set(cast("dict[str, object]", content)))
    if missing:
        problem = f"an answer without {', '.join(missing)}: its code is another version"
        return Answer(None, problem, received)
    return Answer(content, "", received)
