"""Keeps libraries from asking the network; called before they are imported. Sets the environment."""

import os


def forbid_network() -> None:
    """Set what the libraries read, unless the user has set it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
