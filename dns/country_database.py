"""Every network of a MaxMind database with its record (format: https://maxmind.github.io/MaxMind-DB/, version 2).

Law: whatever the bytes, the walk ends, and a damaged file is one `DatabaseError`. The tree is walked here; the library
decodes each record, once: its own iterator decodes a country's record anew for each of its 100,000 networks, and the
one in C was seen to corrupt the heap over a damaged file. The file is read once, and refused when it changed meanwhile.
"""

import io
import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import maxminddb

FILE_BYTES_MAX = 1 << 30
"""Twice the largest city database in use."""
VISITS_PER_NODE_MAX = 4
"""A tree visits each node once, and somewhat more often where subtrees are shared; a loop would never end."""
IPV4_BITS_IN_IPV6 = 96
"""IPv4 networks stand at ::/96 of an IPv6 tree."""


class DatabaseError(Exception):
    """The file is no readable MaxMind database; the text says why."""


Leaf = tuple[int, int, int, int, Any]
"""(IP version, first address, prefix bits, a number that equal records share, record)."""


def networks_of(file: Path) -> Iterator[Leaf]:
    """Every network that has a record, in order of addresses. Raises OSError and DatabaseError."""
    content = _read_whole(file)
    try:
        with maxminddb.open_database(io.BytesIO(content), maxminddb.MODE_FD) as reader:
            yield from _networks(content, reader)
    except DatabaseError:
        raise
    except Exception as error:  # Damaged bytes come out of the library as errors of nearly every kind.
        raise DatabaseError(f"{error} ({type(error).__name__})") from error


def _read_whole(file: Path) -> bytes:
    with file.open("rb") as stream:
        before = os.fstat(stream.fileno())
        if before.st_size > FILE_BYTES_MAX:
            raise DatabaseError(f"it has {before.st_size} bytes, more than the limit of {FILE_BYTES_MAX}")
        content = stream.read(FILE_BYTES_MAX + 1)
        after = os.fstat(stream.fileno())
    if len(content) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DatabaseError("it changed while it was read; put a new one beside it and rename it into place")
    return content


def _networks(content: bytes, reader: maxminddb.Reader) -> Iterator[Leaf]:
    records: dict[int, Any] = {}
    metadata = reader.metadata()
    bits = 128 if metadata.ip_version == 6 else 32
    for first, length, pointer in _walk(content, metadata.node_count, metadata.record_size, bits):
        if bits == 32 or (length >= IPV4_BITS_IN_IPV6 and first >> 32 == 0):
            version, length = 4, length + 32 - bits
        else:
            version = 6
        if pointer not in records:
            records[pointer] = reader.get(IPv4Address(first) if version == 4 else IPv6Address(first))
        yield version, first, length, pointer, records[pointer]


def _walk(content: bytes, node_count: int, record_size: int, bits: int) -> Iterator[tuple[int, int, int]]:
    """(first address, prefix length, pointer to the record) of each leaf that has one, in order of addresses."""
    node_bytes = record_size // 4
    if record_size not in (24, 28, 32) or node_count * node_bytes > len(content):
        raise DatabaseError(f"its tree of {node_count} nodes of {record_size}-bit records does not fit the file")
    ipv4_root = _ipv4_root(content, node_count, record_size) if bits == 128 else -1
    visits_left = node_count * VISITS_PER_NODE_MAX
    waiting = [(0, 0, 0)]
    while waiting:
        node, length, first = waiting.pop()
        if node > node_count:
            yield first, length, node
            continue
        if node == node_count or (node == ipv4_root and first):
            continue  # Nothing is known here; or an alias, such as ::ffff:0:0/96, of the IPv4 tree.
        visits_left -= 1
        if visits_left < 0 or length == bits:
            raise DatabaseError("its tree contains itself")
        left, right = _children(content, node, record_size)
        waiting.append((right, length + 1, first | 1 << (bits - length - 1)))
        waiting.append((left, length + 1, first))


def _children(content: bytes, node: int, record_size: int) -> tuple[int, int]:
    """Both records of a node; those of 28 bits share the middle byte."""
    node_bytes = record_size // 4
    whole = int.from_bytes(content[node * node_bytes : (node + 1) * node_bytes])
    if record_size == 28:
        middle = whole >> 24 & 0xFF
        return (middle >> 4) << 24 | whole >> 32, (middle & 0xF) << 24 | whole & 0xFFFFFF
    return whole >> record_size, whole & ((1 << record_size) - 1)


def _ipv4_root(content: bytes, node_count: int, record_size: int) -> int:
    node = 0
    for _ in range(IPV4_BITS_IN_IPV6):
        if node >= node_count:
            return -1
        node = _children(content, node, record_size)[0]
    return node
