"""The country and the kind of a number in E.164: mobile, fixed line and others."""

from __future__ import annotations

import re
from functools import cache

# Kinds of numbers besides mobile and fixed line, in the order in which `phonenumbers` tries them.
_SPECIAL_KINDS = ("premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail")
_NOTHING = "(?!)"


@cache
def is_checkable() -> bool:
    """Return whether the extra `numbers` is installed."""
    try:
        import phonenumbers  # noqa: F401
    except ImportError:
        return False
    return True


def kind_in_country(code: str, national: str) -> str | None:
    """Return the kind of a country's national number, as `kind_of` does."""
    if not is_checkable():
        return None
    if (kinds := _kinds_in_country(code, len(national))) is not None:
        found = kinds.fullmatch(national)
        return "unknown" if found is None else str(found.lastgroup).replace("_", " ")
    return _kind_in_region(code, national)


@cache
def _kinds_in_country(code: str, length: int) -> re.Pattern[str] | None:
    """
    Return a pattern of a country's national numbers of one length, whose groups have the names of the kinds.

    It is made of the patterns of `phonenumbers`, in the order in which `number_type` tries them, and takes a tenth of
    its time: a bulk send may check a million numbers. It is None for a country code of several regions.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    country = PhoneMetadata.metadata_for_region_or_calling_code(int(code), regions[0]) if len(regions) == 1 else None
    if country is None:
        return None

    def pattern(kind: str) -> str:
        described = getattr(country, kind)
        if described is None or not described.national_number_pattern:
            return _NOTHING
        fits = not described.possible_length or length in described.possible_length
        return f"(?:{described.national_number_pattern})" if fits else _NOTHING

    kinds = {kind: pattern(kind) for kind in _SPECIAL_KINDS}
    fixed, mobile = pattern("fixed_line"), pattern("mobile")
    if country.same_mobile_and_fixed_line_pattern:
        kinds["fixed_line_or_mobile"] = fixed
    else:
        kinds |= {"fixed_line_or_mobile": rf"(?={mobile}\Z){fixed}", "fixed_line": fixed, "mobile": mobile}
    named = "|".join(f"(?P<{kind}>{described})" for kind, described in kinds.items() if described != _NOTHING)
    return re.compile(rf"(?={pattern('general_desc')}\Z)(?:{named or _NOTHING})")


def _kind_in_region(code: str, national: str) -> str:
    """Return the kind of a number whose country code has several regions, or none."""
    from phonenumbers import PhoneNumber, PhoneNumberType, number_type

    zeros = len(national) - len(national.lstrip("0"))
    # Built and not parsed, which takes longer.
    kind = number_type(
        PhoneNumber(
            country_code=int(code),
            national_number=int(national),
            italian_leading_zero=True if zeros else None,
            number_of_leading_zeros=zeros if zeros > 1 else None,
        )
    )
    return PhoneNumberType.to_string(kind).lower().replace("_", " ")
