"""Run `measure_train` in a process that imports transformers as the ranks of a run do."""

from importlib import import_module

import_module("pipeline.model.lean_transformers")

if __name__ == "__main__":
    from pipeline.benchmarks.training.measure_train import main

    main()
