"""The stage `train-tokenizer`: make data_dir/tokenizer, a fast tokenizer that transformers loads.

Reads data_dir/documents, or an existing tokenizer. Whatever the kind, the written folder is loaded
again as a user would, and must give the ids of the reference on thousands of strings; else the
stage fails.
"""

import shutil
from collections.abc import Iterable

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError
from pipeline.logs import human_bytes
from pipeline.store.artifacts import Result
from pipeline.store.counts import TokenizerCounts
from pipeline.store.files import file_record, remove_unlisted, write_json
from pipeline.store.layout import data_folder, tokenizer_report_path
from pipeline.store.manifests.replaced_output import replace_output, unfinished_output
from pipeline.tokens import tokenizer_folder
from pipeline.tokens.encode import prove_fast_encoder
from pipeline.tokens.kinds.tokenizer_kind import Encode, MadeTokenizer, tokenizer_kind
from pipeline.tokens.lost_text import refuse_lost_text


def train_tokenizer(config: RunConfig) -> Result[TokenizerCounts]:
    """Learn or take the tokenizer, write it, and compare it with its reference.

    Raises DataError where there is too little text for the vocabulary, or a pretrained tokenizer
    cannot be taken; where the written folder gives other ids than the reference; where a learned
    tokenizer does not give the text back, or a pretrained one loses too much of it.
    """
    # Make it in a folder of its own: what is refused leaves the tokenizer that is there.
    final = data_folder(config).tokenizer
    folder = unfinished_output(final)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    # Make the tokenizer, then compare what a user would load.
    kind = tokenizer_kind(config)
    made = kind.make(config, folder)
    loaded = tokenizer_folder.load_exported(folder)
    end_of_document = loaded.eos_token_id
    assert isinstance(end_of_document, int), "every tokenizer is written with an eos_token"
    strings = tokenizer_folder.proof_strings(config, sorted(loaded.get_added_vocab()))
    report: TokenizerCounts = {
        "kind": config.tokenizer.kind,
        "vocab_size": max(loaded.get_vocab().values()) + 1,
        "end_of_document_id": end_of_document,
        "training_bytes": 0,
        **made.learned_from,
        **tokenizer_folder.prove(folder, kind, made.reference, strings),
    }

    # Compare other encoders with the reference, and measure the text that is lost.
    report["gigatoken"] = prove_fast_encoder(folder, strings)
    if made.other:
        report["strings_that_sentencepiece_cuts_differently"] = count_other_cuts(
            made, made.other, strings, str(config.tokenizer.path)
        )
    if not kind.is_learned:
        report["lost_text"] = refuse_lost_text(config, folder)
    write_json(tokenizer_report_path(folder), report)

    # Describe the stage for its manifest and its last line.
    headline = (
        f"{report['vocab_size']:,} ids ({config.tokenizer.kind}), exact on {len(strings):,} strings"
    )
    if not kind.is_learned:
        headline += f", of which {report['strings_decoded_to_themselves']:,} decode to themselves"
    if "sample" in report:
        documents = sum(source["documents"] for source in report["sample"].values())
        headline += (
            f", learned from {human_bytes(report['training_bytes'])} of {documents:,} documents"
        )
    files = {path.name: file_record(path) for path in sorted(folder.iterdir()) if path.is_file()}

    # Files of an earlier tokenizer would seem to belong to this one.
    replace_output(folder, final, list(files))
    remove_unlisted(final, list(files), ["*"])
    shutil.rmtree(folder)
    counts: TokenizerCounts = {"headline": headline, **report}
    return Result(counts, files)


def count_other_cuts(made: MadeTokenizer, other: Encode, strings: Iterable[str], where: str) -> int:
    """Return the number of strings that SentencePiece cuts otherwise.

    `where`: the model, for the message. Raises DataError with the first string whose cut differs by
    more than rounding, where the tokenizer can tell.
    """
    count = 0
    for text in strings:
        ids = made.reference(text)
        theirs = other(text)
        if ids == theirs:
            continue
        count += 1
        if made.is_rounding is not None and not made.is_rounding(ids, theirs):
            raise DataError(
                f"tokenizer.path = {where}: its fast form gives other ids than SentencePiece for "
                f"{text[:80]!r}; name a tokenizer.json made from it"
            )
    return count
