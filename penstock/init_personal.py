"""Which columns look personal: by their names, and by what a small sample of their values looks like.

A suspicion, not a finding: a spec then says ``pii: suspected`` and a person decides. Values are looked at and
forgotten; none is ever printed, logged or written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

SAMPLE_ROWS = 200
"""Rows whose values are looked at."""

_SHARE = 0.6
"""Share of the sampled values that must look alike."""

_WORDS = {
    "e-mail address": "email mail emailaddress",
    "phone number": "phone telephone tel mobile cellphone fax phonenumber",
    "person's name": "firstname lastname surname forename fullname givenname familyname middlename nickname username",
    "date of birth": "birth birthday birthdate dob",
    "postal address": "address street postal postcode zip zipcode postalcode streetname",
    "bank account": "iban bic accountnumber",
    "payment card": "cardnumber creditcard pan cvv",
    "official number": "ssn passport taxid nationalid socialsecurity licence license",
    "network address": "ip ipaddress macaddress",
    "secret": "password passwd passwordhash secret token apikey",
    "trait of a person": "gender sex nationality religion ethnicity maritalstatus salary",
    "position of a person": "latitude longitude geolocation",
}
"""What a column may hold, and the words of a name that say so; two words of a name are also read as one."""

_PEOPLE = {
    "account",
    "author",
    "client",
    "contact",
    "customer",
    "employee",
    "guest",
    "member",
    "owner",
    "passenger",
} | {*("patient", "people", "person", "student", "subscriber", "user", "visitor")}
"""Words in a table's name that make its column ``name`` the name of a person."""

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_PHONE = re.compile(r"(?=.*[+()\s-])\+?[0-9()\s./-]{7,24}")
_DAY = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}.*")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")


def personal_by_name(table: str, column: str) -> str:
    """Why a column's name looks personal; empty if it does not. Both names are names of the lake."""
    words = column.split("_")
    seen = {*words, *(first + second for first, second in pairwise(words))}
    for what, known in _WORDS.items():
        if seen & set(known.split()):
            return f"named like a {what}" if what[0] not in "aeio" else f"named like an {what}"
    people = {word.removesuffix("s") for word in table.split("_")} & _PEOPLE
    return "the name of somebody, by the table it is in" if column == "name" and people else ""


def personal_by_values(values: Sequence[str | None]) -> str:
    """Why values look personal; empty if they do not. The answer counts them and never repeats one."""
    given = [value.strip() for value in values if value is not None and value.strip()]
    for what, looks in _LOOKS.items():
        matching = sum(looks(value) for value in given)
        if matching and matching >= _SHARE * len(given):
            return f"{matching} of {len(given)} sampled values look like {what}"
    return ""


def _is_phone(text: str) -> bool:
    digits = sum(character.isdigit() for character in text)
    return bool(_PHONE.fullmatch(text)) and 7 <= digits <= 15 and not _DAY.fullmatch(text)


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "").upper()
    if not _IBAN.fullmatch(plain):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    if not re.fullmatch(r"[2-6]\d{12,18}", digits):
        return False
    doubled = [int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


_LOOKS: dict[str, Callable[[str], bool]] = {
    "e-mail addresses": lambda text: bool(_EMAIL.fullmatch(text)),
    "bank accounts (IBAN)": _is_iban,
    "payment card numbers": _is_card,
    "phone numbers": _is_phone,
}
