"""As `measure_train`, in a process that imports transformers as the ranks of a run do."""

import pipeline.model.lean_transformers  # noqa: F401
from pipeline.benchmarks.training.measure_train import main

if __name__ == "__main__":
    main()
