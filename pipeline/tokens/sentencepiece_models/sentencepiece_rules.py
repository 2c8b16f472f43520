"""The table of rules by which a SentencePiece model rewrites text before it is cut.

`tokenizers` reads the same table, but looks up characters that belong together as one: of those with
fewer than six bytes it takes the rule of the first and drops the others. So a table of few rules for
single characters becomes steps of its own, which are exact; any other is compared on such strings.

Source: `Normalizer::NormalizePrefix` in SentencePiece's normalizer.cc, the layout of units in
darts-clone's darts.h, `normalize` in tokenizers' normalizers/precompiled.rs.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from tokenizers import normalizers

MOST_STEPS = 64
"""Maximum number of rules that become steps: each one reads the whole text."""
LABEL_BITS = 0x800000FF
"""Bits of a unit that hold the byte which leads to it; the highest is set in values."""
HAS_VALUE = 0x100
FAR = 0x200
"""Bit of a unit whose offset counts in steps of 256."""
LAST_CODE = 0x2FFFF
"""Last code point that may have a rule: behind it Unicode has no characters that NFKC changes."""
JOINED = ("\u0301", "\ufe0f", "\n")
"""What may belong to the character before it: an accent, a selector of variants, an LF after a CR."""


def single_rules(table: bytes) -> Mapping[str, str] | None:
    """Return character -> replacement, where steps in any order do the same as the table.

    None where there are more than MOST_STEPS rules, one of several characters, or one whose
    replacement has a rule itself. Raises ValueError or IndexError for a damaged table.
    """
    rules: dict[str, str] = {}
    for key, replacement in _rules_in(table):
        character = key.decode()
        if len(rules) == MOST_STEPS or len(character) != 1:
            return None
        rules[character] = replacement.decode()
    if any(character in replacement for character in rules for replacement in rules.values()):
        return None
    return rules


def joined_characters(table: bytes) -> Iterator[str]:
    """Yield each character that the table changes with what may belong to it, between two letters."""
    step = normalizers.Precompiled(table)
    for code in range(LAST_CODE + 1):
        character = chr(code)
        is_surrogate = 0xD800 <= code <= 0xDFFF
        if not is_surrogate and step.normalize_str(character) != character:
            for joined in JOINED:
                yield f"a{character}{joined}b"


def _rules_in(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (UTF-8 to find, UTF-8 in its place) of all rules: a trie, then texts that end with zero."""
    size = int.from_bytes(table[:4], "little")
    units = np.frombuffer(table, "<u4", size // 4, 4)
    texts = table[4 + size :]
    labels = np.arange(1, 256, dtype=np.uint32)
    waiting = [(b"", _offset(int(units[0])))]
    while waiting:
        key, node = waiting.pop()
        places = node ^ labels
        places = places[places < len(units)]
        is_child = units[places] & np.uint32(LABEL_BITS) == places ^ np.uint32(node)
        for place in places[is_child].tolist():
            unit = int(units[place])
            longer = key + bytes([place ^ node])
            child = place ^ _offset(unit)
            if unit & HAS_VALUE:
                start = int(units[child]) & 0x7FFFFFFF
                yield longer, texts[start : texts.index(b"\0", start)]
            waiting.append((longer, child))


def _offset(unit: int) -> int:
    """Return what leads from the place of a unit to its children."""
    steps = unit >> 10
    if unit & FAR:
        return steps << 8
    return steps
