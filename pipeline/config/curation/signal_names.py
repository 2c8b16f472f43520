"""Names of the quality signals, by set.

A signal is defined where it is computed, in `pipeline/corpus/annotating/signals/`; names stand here
because run files are checked before anything is computed.
"""

from collections.abc import Mapping

SIGNAL_SETS: Mapping[str, tuple[str, ...]] = {
    "redpajama-v2": (
        "rps_doc_lorem_ipsum",
        "rps_doc_curly_bracket",
        "rps_doc_stop_word_fraction",
        "rps_doc_frac_chars_top_2gram",
        "rps_doc_frac_chars_top_3gram",
        "rps_doc_frac_chars_top_4gram",
        "rps_doc_frac_chars_dupe_5grams",
        "rps_doc_frac_chars_dupe_6grams",
        "rps_doc_frac_chars_dupe_7grams",
        "rps_doc_frac_chars_dupe_8grams",
        "rps_doc_frac_chars_dupe_9grams",
        "rps_doc_frac_chars_dupe_10grams",
        "rps_doc_num_sentences",
        "rps_doc_word_count",
        "rps_doc_mean_word_length",
        "rps_doc_symbol_to_word_ratio",
        "rps_doc_frac_lines_end_with_ellipsis",
        "rps_doc_frac_no_alph_words",
        "rps_doc_frac_unique_words",
        "rps_doc_unigram_entropy",
        "rps_doc_frac_all_caps_words",
        "rps_lines_javascript_counts",
        # Published with this spelling.
        "rps_lines_ending_with_terminal_punctution_mark",
        "rps_lines_num_words",
        "rps_lines_uppercase_letter_fraction",
        "rps_lines_numerical_chars_fraction",
        "rps_lines_start_with_bulletpoint",
    ),
    "redpajama-v2-published": (
        "ccnet_bucket",
        "ccnet_language_score",
        "ccnet_length",
        "ccnet_nlines",
        "ccnet_original_length",
        "ccnet_original_nlines",
        "ccnet_perplexity",
        "rps_doc_books_importance",
        "rps_doc_books_importance_length_correction",
        "rps_doc_openwebtext_importance",
        "rps_doc_openwebtext_importance_length_correction",
        "rps_doc_wikipedia_importance",
        "rps_doc_wikipedia_importance_length_correction",
        "rps_doc_ml_palm_score",
        "rps_doc_ml_wikipedia_score",
        "rps_doc_ml_wikiref_score",
        "rps_doc_ldnoobw_words",
        "rps_doc_ut1_blacklist",
    ),
    "gopher": (
        "gopher_word_count",
        "gopher_mean_word_length",
        "gopher_hash_to_word_ratio",
        "gopher_ellipsis_to_word_ratio",
        "gopher_frac_lines_start_with_bullet",
        "gopher_frac_words_with_letter",
        "gopher_stop_words",
        "gopher_frac_dupe_lines",
        "gopher_frac_dupe_paragraphs",
        "gopher_frac_chars_dupe_lines",
        "gopher_frac_chars_dupe_paragraphs",
    ),
    "c4": (
        "c4_num_sentences",
        "c4_lorem_ipsum",
        "c4_opening_brackets",
        "c4_lines_kept",
    ),
    "fineweb": (
        "fineweb_frac_lines_end_with_punctuation",
        "fineweb_frac_short_lines",
        "fineweb_frac_chars_dupe_lines",
        "fineweb_newlines_to_words",
    ),
}
"""Set -> signals.

Those of `redpajama-v2` need no model, block list or URL. `redpajama-v2-published` are its others, known
only where a tree has them. The other sets hold what their filters measure and RedPajama-v2 does not, or
defines otherwise.

Source of the first: RedPajama-Data, app/src/core/quality_signals/ (names are the classes' in lower case).
"""
LINE_SIGNALS = frozenset(
    name for name in SIGNAL_SETS["redpajama-v2"] if name.startswith("rps_lines_")
) | {"c4_lines_kept"}
"""Signals with a score for each line of a document; the others have one number for a document."""
