"""One version number for what each stage makes.

It enters the stage's fingerprint and those of its work items. So raising it makes every finished
output of the stage stale, all of its work is done again, and so is the work of the stages that read
it where the bytes have changed.

Raise it by one when a stage makes other output of the same inputs and settings: other bytes, another
format of its files, other counts in its manifest that another stage reads, or the same bytes with
another meaning. Do not raise it when output stays the same, as when code moves, gets faster or says
more; nor when a new setting or a new field has a default under which the output is what it was. A
stage that only begins to refuse what it should never have made keeps its number, too: what it made
is then found by the checks of those that read it.

The table of stages (`__main__`) hands each number to its `Stage`; modules whose work items have
fingerprints of their own take it from here.
"""

PREPARE = 4
TRAIN_TOKENIZER = 3
TOKENIZE = 3
PACK = 1
"""Also written into the header of each index file (`sampling/packed_rows.py`)."""
TRAIN = 2
EXPORT = 2
EVALUATE = 2
REPORT = 1
"""Also decides whether kept measurements of tokenizers (`tokens/tokenizer_report.py`) are made
again: what they show is drawn by the report."""
