"""The part `pii`: where e-mail addresses, IP addresses and phone numbers stand in a document.

What replaces one depends on the document's text and on the address alone, so it is the same whatever
other documents a work item has, and equal addresses in a document stay equal. Replacements come from
ranges that are reserved for documentation and fiction.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import pyarrow as pa
import xxhash

from pipeline.config.run_config import RunConfig
from pipeline.corpus.annotating.document_text import DocumentText
from pipeline.corpus.annotating.part import AnnotationPart, Value, list_of
from pipeline.store.records import Json

EMAIL = "email"
IP_ADDRESS = "ip"
PHONE = "phone"
SPAN_KIND = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())])

LOCAL_CHARACTERS = 64
"""Most characters before the `@` of an e-mail address. Source: RFC 5321, section 4.5.3.1.1."""
LOCAL_PART = re.compile(r"[A-Za-z0-9_+-](?:[A-Za-z0-9._%+'-]*[A-Za-z0-9_+-])?$")
DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
FOUR_NUMBERS = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")
NUMBER_END = re.compile(r"[0-9]{3}[-. ][0-9]{4}(?![\w-]|[. ][0-9])")
AREA_CODE = re.compile(
    r"(?:(?<![\w.+-])\+?1[-. ])?(?:\([0-9]{3}\) ?|(?<![\w.+-])(?<![0-9] )[0-9]{3}[-. ])$"
)
"""A number of North America: `(206) 555-0100`, `206-555-0100`, `+1 206.555.0100`."""
AREA_CHARACTERS = 10
INTERNATIONAL = re.compile(r"\+[1-9][0-9]{0,2}(?:[-. ]?\(?[0-9]{1,4}\)?){2,5}(?![\w*/%&(\[=-])")
"""A number that begins with the country's code. Source: ITU-T E.164, 8 to 15 digits."""
INTERNATIONAL_DIGITS = (8, 15)
BEFORE_SUMS = ("_", ")", "]", "}")


class PersonalSpan(NamedTuple):
    """A span of a text that may identify a person."""

    start: int
    end: int
    kind: str


class PersonalData(AnnotationPart):
    """Spans in order, none overlaps another."""

    name = "pii"
    version = 2

    @classmethod
    def asked_for(cls, config: RunConfig) -> Self | None:
        """Return the part if `annotate.pii` is set."""
        if config.annotate is None or not config.annotate.pii:
            return None
        return cls()

    def settings(self) -> Json:
        """Return nothing: the spans depend on the text alone."""
        return None

    def fields(self) -> Sequence[pa.Field]:
        """Return the column `pii`."""
        return [pa.field("pii", list_of(SPAN_KIND))]

    def values(self, document: DocumentText) -> Sequence[Value]:
        """Return starts, ends and kinds."""
        spans = find_personal_data(document.text)
        return [
            (
                [span.start for span in spans],
                [span.end for span in spans],
                [span.kind for span in spans],
            )
        ]


def find_personal_data(text: str) -> list[PersonalSpan]:
    """Return the spans of a text, ascending; of two that overlap the one that begins first."""
    found = sorted([*_emails(text), *_ip_addresses(text), *_phone_numbers(text)])
    spans: list[PersonalSpan] = []
    for span in found:
        if not spans or span.start >= spans[-1].end:
            spans.append(span)
    return spans


def _emails(text: str) -> Iterator[PersonalSpan]:
    """Yield e-mail addresses: what stands around each `@`."""
    place = text.find("@")
    while place >= 0:
        domain = DOMAIN.match(text, place + 1)
        first = max(0, place - LOCAL_CHARACTERS)
        local = LOCAL_PART.search(text[first:place])
        if domain and local:
            yield PersonalSpan(first + local.start(), domain.end(), EMAIL)
        place = text.find("@", place + 1)


def _ip_addresses(text: str) -> Iterator[PersonalSpan]:
    """Yield public addresses of IPv4; not those of private networks, nor parts of longer numbers."""
    for match in FOUR_NUMBERS.finditer(text):
        before = text[max(0, match.start() - 1) : match.start()]
        after = text[match.end() : match.end() + 2]
        if before.isalnum() or before in (".", "_", "-"):
            continue
        if (
            after[:1].isalnum()
            or after[:1] in ("_", "-")
            or (after[:1] == "." and after[1:].isdigit())
        ):
            continue
        if any(len(part) > 1 and part[0] == "0" for part in match[0].split(".")):
            continue
        try:
            address = ipaddress.IPv4Address(match[0])
        except ValueError:
            continue
        if address.is_global:
            yield PersonalSpan(match.start(), match.end(), IP_ADDRESS)


def _phone_numbers(text: str) -> Iterator[PersonalSpan]:
    """Yield numbers of North America, and those that begin with the code of a country."""
    for match in NUMBER_END.finditer(text):
        first = max(0, match.start() - AREA_CHARACTERS)
        area = AREA_CODE.search(text[first : match.start()])
        if area:
            yield PersonalSpan(first + area.start(), match.end(), PHONE)
    fewest, most = INTERNATIONAL_DIGITS
    for match in INTERNATIONAL.finditer(text):
        before = text[max(0, match.start() - 1) : match.start()]
        # Behind a name or a bracket, the sign adds.
        if before.isalnum() or before in BEFORE_SUMS:
            continue
        if fewest <= sum(map(str.isdigit, match[0])) <= most:
            yield PersonalSpan(match.start(), match.end(), PHONE)


def replacement(kind: str, match: str, text_hash: bytes) -> str:
    """Return what stands for an address in a text.

    `match`: the address as it is written. `text_hash`: the document's, of the part `text_hash`. A
    function of these alone.
    """
    draw = xxhash.xxh3_64_intdigest(text_hash + kind.encode() + b"\0" + match.encode())
    if kind == EMAIL:
        # Source: RFC 2606, section 3.
        return f"user{draw % 10_000}@example.com"
    if kind == IP_ADDRESS:
        # Source: RFC 5737, section 3.
        network = ("192.0.2", "198.51.100", "203.0.113")[draw % 3]
        return f"{network}.{1 + (draw >> 8) % 254}"
    # Source: ATIS-0300115, section 4: 555-0100 to 555-0199 are for fiction.
    return f"(555) 555-01{draw % 100:02d}"
