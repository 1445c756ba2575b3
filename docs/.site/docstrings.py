"""Lets the site read docstrings as this house writes them (a Griffe extension, named in zensical.toml)."""

import re
from typing import Any

from griffe import Class, Extension, Object

# A section begins on the line after the one before it, without an empty line between.
SECTION = re.compile(r"(?<!\n)\n(Args|Attributes|Raises|Returns|Yields):\n")
# What has one meaning is explained once: "username, password: Of an admin account."
TOGETHER = re.compile(r"^( +)(\w+), (\w+(?:, \w+)*): (.*(?:\n\1 +\S.*)*)$", re.MULTILINE)
# Values that people make; their defaults stand in no signature, as msgspec makes `__init__`.
SETTINGS = frozenset({"RatePolicy", "RetryPolicy", "Timeouts"})


def each_alone(item: re.Match[str]) -> str:
    indent, first, others, text = item.groups()
    rest = (f"{indent}{name}: See `{first}`." for name in others.split(", "))
    return "\n".join((f"{indent}{first}: {text}", *rest))


class HouseStyle(Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring:
            spaced = SECTION.sub(r"\n\n\1:\n", obj.docstring.value)
            obj.docstring.value = TOGETHER.sub(each_alone, spaced)

    def on_class_members(self, *, cls: Class, **kwargs: Any) -> None:
        if cls.name in SETTINGS and cls.docstring:
            for name, field in cls.attributes.items():
                if field.value is not None:
                    item = re.compile(rf"^( +){name}: (.*(?:\n\1 +\S.*)*)$", re.MULTILINE)
                    default = rf"\1{name}: \2 Default: `{field.value}`."
                    cls.docstring.value = item.sub(default, cls.docstring.value)
