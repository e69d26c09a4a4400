"""HTML as strings. What is named text is escaped here; what is named markup is not."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

NONE = "\N{EN DASH}"  # in the place of what is not there
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")


def text(value: Any) -> str:
    """Any value as text that HTML can hold; bytes of names that are no text, and the like, are shown as �."""
    whole = str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return html.escape(_CONTROL.sub("\ufffd", whole))


def tag(name: str, *markup: str, **attributes: Any) -> str:
    """An element around markup. Attributes are text; an underscore at the end is dropped, others are hyphens."""
    shown = "".join(f' {k.rstrip("_").replace("_", "-")}="{text(v)}"' for k, v in attributes.items() if v is not None)
    return f"<{name}{shown}>{''.join(markup)}</{name}>"


def image(uri: str, alt: str, width: int, height: int, class_: str | None = None) -> str:
    """An embedded picture."""
    kind = f' class="{text(class_)}"' if class_ else ""
    return f'<img src="{uri}" alt="{text(alt)}" width="{width}" height="{height}"{kind}>'


def scrolling(label: str, *markup: str) -> str:
    """A box that scrolls where its content is wider than the page; by keyboard too."""
    return tag("div", *markup, class_="scroll", role="region", aria_label=label, tabindex="0")


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], class_: str | None = None) -> str:
    """A table in a box that scrolls.

    Args:
      caption: text.
      head: markup of each column's head.
      rows: markup of each cell; the first is the row's head.
      class_: of the table.
    """
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    lines = (tag("tr", tag("th", first, scope="row"), *(tag("td", c) for c in cells)) for first, *cells in rows)
    inside = tag("table", tag("caption", text(caption)), top, tag("tbody", "\n".join(lines)), class_=class_)
    return scrolling(caption, inside)


def dash(why: str) -> str:
    """In the place of what is not there, with the reason."""
    return f"{tag('span', NONE, class_='none')} {tag('small', text(why))}"


def facts(items: Iterable[tuple[str, str]]) -> str:
    """Names, as text, with what belongs to them, as markup."""
    return tag("dl", *(tag("div", tag("dt", text(name)), tag("dd", markup)) for name, markup in items))


def section(title: str, *markup: str) -> str:
    """A section of the page under its heading; links find it by the title."""
    name = title.split()[0].lower()
    return tag("section", tag("h2", text(title), id=name), *markup, aria_labelledby=name) + "\n"
