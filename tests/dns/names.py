"""Names as they stand on the wire, for tests that make up their own."""


def name_of(labels: tuple[bytes, ...]) -> bytes:
    """The uncompressed wire name of these labels: `(b"www", b"de")` -> `b"\\3www\\2de\\0"`."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
