"""One version number for the output of each stage.

The number enters the fingerprint of the stage and those of its work items. So raising it makes all
finished output of the stage stale: its work is done again, and so is the work of the stages that
read it, where the bytes have changed.

Raise the number by one when a stage makes different output from the same inputs and settings: other
bytes, another format of its files, other counts that another stage reads in the manifest, or the
same bytes with another meaning. Do not raise it when the output is the same: when code moves, gets
faster or prints more, or when a new setting has a default under which nothing changes. Do not raise
it either when a stage only begins to refuse some input: the stages that read its output check it.

The table of stages (`stages.py`) gives each number to its `Stage`. Modules whose work items have
fingerprints of their own import it from here.
"""

PREPARE = 4
ANNOTATE = 2
"""Version of the files of `annotate`; each part of them has one of its own, which leaves the columns of the
others as they are."""
SELECT = 3
TRAIN_TOKENIZER = 3
TOKENIZE = 3
PACK = 1
"""Version of `pack`, also written into the header of each index file (`sampling/packed_rows.py`)."""
TRAIN = 2
SEARCH = 2
"""Version of the search of documents for texts (`corpus/text_search.py`), which is no stage."""
NEAR_DUPLICATES = 1
"""Version of the comparison of documents (`corpus/near_duplicates/`), a part of `select`."""
DECONTAMINATE = 2
"""Version of the verdicts on documents that hold questions (`corpus/decontaminating/`), a part of
`select`."""
EXPORT = 2
EVALUATE = 4
REPORT = 3
"""Version of `report`, which also decides whether the stored measurements of tokenizers
(`tokens/tokenizer_report.py`) are made again."""
