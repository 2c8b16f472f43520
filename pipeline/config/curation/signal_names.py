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
}
"""Set -> signals. Those of RedPajama-v2 are the ones that need no model, block list or URL.

Source: RedPajama-Data, app/src/core/quality_signals/ (names are the classes' in lower case).
"""
