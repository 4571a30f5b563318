"""The commands and files of a page in docs/, as they stand there.

A block that is to be run says where in its first line: three backquotes, `sh at ams` or `sh at every site`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)(?: at ([a-z ]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One of a page, in order."""

    language: str
    at: str
    """A site, or `every site`; empty where nobody is named."""
    text: str

    def sites(self, all_sites: tuple[str, ...]) -> tuple[str, ...]:
        return all_sites if self.at == "every site" else (self.at,)


def blocks(page: str, language: str) -> list[Block]:
    """Those in that language."""
    found = [Block(*groups) for groups in _BLOCK.findall((DOCS / page).read_text("utf-8"))]
    return [block for block in found if block.language == language]
