"""What a fork runs to call a function of a test: `python -m call_in_fork`, with the call as its input
(`forks.py` writes it)."""

import pickle
import sys


def main() -> None:
    """Read where modules lie, then the function with its arguments, and call it."""
    sys.path[:] = pickle.load(sys.stdin.buffer)
    function, arguments = pickle.load(sys.stdin.buffer)
    function(*arguments)


if __name__ == "__main__":
    main()
