"""Personal data: what is found and what is not, and replacements that depend on the document alone."""

import ipaddress

import pytest
import xxhash

from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.pii import PersonalData, find_personal_data, replacement


def found(text: str) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_personal_data(text)]


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Write to Jo.Doe+x@mail.example.org, soon.", [("email", "Jo.Doe+x@mail.example.org")]),
        ("<a@b.de>;c@d.co.uk.", [("email", "a@b.de"), ("email", "c@d.co.uk")]),
        ("\u00e9\u00e9 \U0001f600 a_b@c.net", [("email", "a_b@c.net")]),
        ("@home a@b @c.de x@y.1 a@-b.de", []),
        ("from 8.8.8.8 to 8.8.4.4.", [("ip", "8.8.8.8"), ("ip", "8.8.4.4")]),
        # Private, too large, parts of longer numbers, versions.
        ("10.0.0.1 192.168.1.1 127.0.0.1 8.8.8.256 1.8.8.8.8 v8.8.8.8 08.8.8.8", []),
        (
            "Call (206) 555-1234 or 206-555-1235.",
            [("phone", "(206) 555-1234"), ("phone", "206-555-1235")],
        ),
        ("+1 206 555 1234", [("phone", "+1 206 555 1234")]),
        (
            "+49 (0) 30 1234567, +4420 79460958",
            [("phone", "+49 (0) 30 1234567"), ("phone", "+4420 79460958")],
        ),
        ("2065551234 12-206-555-1234-5 206-555-12345 1206.555.1234 2001-02-03", []),
        ("t[s]+16777216*t[1] (a)+16777216; +16777216*2 b+10011010010 211 486 761 1265 8", []),
        ("a+1@b.de", [("email", "a+1@b.de")]),
        ("", []),
    ],
)
def test_what_is_found(text: str, spans: list[tuple[str, str]]) -> None:
    assert found(text) == spans


def test_the_column_holds_characters_and_kinds() -> None:
    ((starts, ends, kinds),) = PersonalData().values(DocumentText("\U0001f600 a@b.de 8.8.8.8"))
    assert (starts, ends, kinds) == ([2, 9], [8, 16], ["email", "ip"])


def test_a_replacement_depends_on_the_document_and_the_match_alone() -> None:
    texts = [
        f"Text {number} of a@b.de, a@b.de, 8.8.8.8 and (206) 555-1234." for number in range(30)
    ]

    def replaced(text: str) -> list[str]:
        text_hash = xxhash.xxh3_128_digest(text.encode())
        return [
            replacement(span.kind, text[span.start : span.end], text_hash)
            for span in find_personal_data(text)
        ]

    among_others = [replaced(text) for text in texts]
    alone = [replaced(text) for text in reversed(texts)]
    assert among_others == alone[::-1]
    assert len({values[0] for values in among_others}) > 20
    for email, same, address, phone in among_others:
        assert email == same
        assert not ipaddress.IPv4Address(address).is_global
        # What stands for personal data is of the same kind, so the text stays what it was.
        assert [kind for kind, _ in found(f"{email} {phone}")] == ["email", "phone"]
