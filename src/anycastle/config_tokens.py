"""The file of tokens for the API: a line each, `NAME SCOPE,SCOPE TOKEN`, or one token alone, which may do everything.

Law: a token is never shown, not even when its line is wrong, and only its digest is kept.
"""

import hashlib
import re
from pathlib import Path

from anycastle.errors import AnycastleError
from anycastle.health.settings import Scope, Token

TOKENS_MAX = 100
FILE_BYTES_MAX = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_TOKEN = re.compile(r"[!-~]{16,512}")
_SCOPES = ", ".join(scope.value for scope in Scope)
_EXPECTED = "at least 16 printable ASCII characters without spaces"
ALONE = "token"
"""The name of a token that stands alone in its file."""


class TokenFault(AnycastleError):
    """A token file that cannot be read."""


def read_tokens(file: Path) -> tuple[Token, ...]:
    """All tokens of the file. Raises TokenFault that names the file, the line, and what was expected."""
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise TokenFault(f"{file} cannot be read ({reason}): expected {_EXPECTED}") from error
    if len(text) > FILE_BYTES_MAX:
        raise TokenFault(f"{file}: expected at most {FILE_BYTES_MAX} bytes")
    return _tokens(file, text)


def _tokens(file: Path, text: str) -> tuple[Token, ...]:
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, words) for number, words in lines if words and not words[0].startswith("#")]
    if [len(words) for _, words in lines] == [1]:
        lines = [(lines[0][0], [ALONE, Scope.ADMIN.value, *lines[0][1]])]
    found: dict[str, Token] = {}
    for number, words in lines:
        where = f"{file}, line {number}"
        token = _token(where, words)
        if token.name in found:
            raise TokenFault(f"{where}: {token.name} is there twice: expected each name once")
        found[token.name] = token
    if not 1 <= len(found) <= TOKENS_MAX:
        raise TokenFault(f"{file} has {len(found)} tokens: expected 1 to {TOKENS_MAX}")
    return tuple(found.values())


def _token(where: str, words: list[str]) -> Token:
    if len(words) != 3:
        raise TokenFault(f"{where}: expected NAME SCOPES TOKEN, as in: night-shift drain,routes …; scopes: {_SCOPES}")
    name, scopes, token = words
    if not _NAME.fullmatch(name):
        raise TokenFault(f"{where}: expected a name of letters, digits, '.', '_', '@' and '-' first")
    try:
        allowed = frozenset(Scope(scope) for scope in scopes.split(","))
    except ValueError:
        raise TokenFault(f"{where}: expected scopes joined by commas, of: {_SCOPES}") from None
    if not _TOKEN.fullmatch(token):
        raise TokenFault(f"{where}: expected {_EXPECTED}")
    return Token(name=name, scopes=allowed, digest=hashlib.sha256(token.encode("ascii")).digest())
