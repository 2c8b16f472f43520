"""A program for transformers 4: load exported folders as a user would, and write what they give.

    PYTHONPATH=<folder with transformers 4> python read_by_version_4.py ANSWER.json FOLDER...

Each folder holds probe.npz with `input_ids`. The answer has for each folder's name its tokenizer's
class and ids of TEXTS (where the folder has a tokenizer), and the largest difference to the probe's
`logits`, or the error.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

TEXTS = (
    "The quick brown fox",
    "<|endoftext|>",
    " a<|endoftext|>b\n  c",
    "naïve \U0001f600 12,345.67",
    "",
)


def read(folder: Path) -> dict[str, Any]:
    """Return what transformers makes of one folder."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answer: dict[str, Any] = {}
    if (folder / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        answer |= {"ids": [tokenizer.encode(text) for text in TEXTS], "end": tokenizer.eos_token_id}
    probe = np.load(folder / "probe.npz")
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        with torch.no_grad():
            logits = model.eval()(
                input_ids=torch.from_numpy(probe["input_ids"]), use_cache=False
            ).logits.numpy()
    except (
        Exception
    ) as error:  # version 4 does not know the architecture, or refuses the folder: no silence
        return answer | {"refused": f"{type(error).__name__}: {str(error)[:200]}"}
    answer["difference"] = float(abs(logits - probe["logits"]).max())
    answer["odd weights"] = [*loaded["missing_keys"], *loaded["unexpected_keys"]]
    return answer


def main() -> None:
    """Read all folders, and say which transformers did."""
    import torch
    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    answers = {Path(folder).name: read(Path(folder)) for folder in sys.argv[2:]}
    Path(sys.argv[1]).write_text(
        json.dumps({"version": transformers.__version__, "folders": answers})
    )


if __name__ == "__main__":
    main()
