"""`{{column}}` in a text."""

import pytest

from pico_async import ConfigurationError, InvalidMessageError
from pico_async.cli.template import TextTemplate


def test_each_place_is_filled_with_its_column() -> None:
    """Values stand where their columns were named; blanks inside the braces do not matter."""
    template = TextTemplate.parse("Dear {{name}}, your code is {{ code }}. {{name}}!")

    text = template.render({"name": "陳大文", "code": "0042", "other": "x"})

    assert text == "Dear 陳大文, your code is 0042. 陳大文!"
    assert template.columns == ("name", "code")


def test_a_value_is_not_rendered_again() -> None:
    """What a row holds goes out as it is, also where it looks like a place."""
    template = TextTemplate.parse("{{name}}: {{code}}")

    assert template.render({"name": "{{code}}", "code": "1"}) == "{{code}}: 1"


def test_a_text_without_places_is_everybodys() -> None:
    """Braces that make no place are text."""
    text = 'Single {braces}, }} and {"a": {"b": 1}} are text.'

    assert TextTemplate.parse(text).render({}) == text
    assert TextTemplate.parse(text).columns == ()


@pytest.mark.parametrize("values", [{}, {"code": ""}, {"code": " \t"}])
def test_a_missing_or_blank_value_is_an_error_that_names_the_column_only(values: dict[str, str]) -> None:
    """A text with a hole costs money and says nothing."""
    with pytest.raises(InvalidMessageError, match="`code` is empty"):
        TextTemplate.parse("{{name}}: {{code}}").render({"name": "陳大文", **values})


@pytest.mark.parametrize("text", ["{{code", "a {{ b", "{{}}", "{{ }}", "{{a{b}}"])
def test_a_place_without_end_or_name_is_refused(text: str) -> None:
    """It would go out to everybody as it is written."""
    with pytest.raises(ConfigurationError, match=r"as \{\{column\}\}"):
        TextTemplate.parse(text)
