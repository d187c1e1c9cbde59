"""`{{column}}` in a text is replaced with the value of that column."""

import pytest

from pico_async import ConfigurationError, InvalidMessageError
from pico_async.cli.blast.text_template import TextTemplate


def test_each_placeholder_is_replaced_with_its_column() -> None:
    """Each placeholder is replaced with the value of its column, and blanks inside the braces are ignored."""
    template = TextTemplate.parse("Dear {{name}}, your code is {{ code }}. {{name}}!")

    text = template.render({"name": "陳大文", "code": "0042", "other": "x"})

    assert text == "Dear 陳大文, your code is 0042. 陳大文!"
    assert template.columns == ("name", "code")


def test_a_value_is_not_rendered_again() -> None:
    """A value that looks like a placeholder is sent as it is."""
    template = TextTemplate.parse("{{name}}: {{code}}")

    assert template.render({"name": "{{code}}", "code": "1"}) == "{{code}}: 1"


def test_a_text_without_placeholders_is_the_same_for_each_row() -> None:
    """Braces that form no placeholder are text, and a text without placeholders is the same for each row."""
    text = 'Single {braces}, }} and {"a": {"b": 1}} are text.'

    assert TextTemplate.parse(text).render({}) == text
    assert TextTemplate.parse(text).columns == ()


@pytest.mark.parametrize("values", [{}, {"code": ""}, {"code": " \t"}])
def test_a_missing_or_blank_value_is_an_error_that_names_the_column_only(values: dict[str, str]) -> None:
    """A missing or blank value is an error, because an incomplete text costs money and is useless."""
    with pytest.raises(InvalidMessageError, match="`code` is empty"):
        TextTemplate.parse("{{name}}: {{code}}").render({"name": "陳大文", **values})


@pytest.mark.parametrize("text", ["{{code", "a {{ b", "{{}}", "{{ }}", "{{a{b}}"])
def test_a_placeholder_without_end_or_name_is_refused(text: str) -> None:
    """A placeholder without an end or a name is an error; otherwise each recipient would get the braces."""
    with pytest.raises(ConfigurationError, match=r"as \{\{column\}\}"):
        TextTemplate.parse(text)
