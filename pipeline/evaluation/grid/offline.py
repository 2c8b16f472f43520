"""Whether libraries may ask the network. Reads the environment, and sets it before they are imported."""

import os


def forbid_network() -> None:
    """Set what the libraries read, unless the user has set it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def offline_variables() -> list[str]:
    """Return the variables by which the user forbids the Hugging Face libraries the network.

    Source: huggingface_hub/constants.py and datasets/config.py, which read them in this way.
    """
    names = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    return [
        name
        for name in (*names[:1], "HF_DATASETS_OFFLINE")
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
    ]
