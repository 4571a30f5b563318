"""Writes MaxMind databases for tests (format: https://maxmind.github.io/MaxMind-DB/): an IPv6 tree with IPv4 at ::/96.

Like real ones, it also aliases the IPv4 tree at ::ffff:0:0/96 and 2002::/16.
"""

import ipaddress
import struct
from collections.abc import Mapping

METADATA_MARKER = b"\xab\xcd\xefMaxMind.com"
UINT16, UINT32, UINT64 = 5, 6, 9
INTEGER_BYTES = {UINT16: 2, UINT32: 4, UINT64: 8}
Node = list["Node | int | None"]


def write_mmdb(networks: Mapping[str, object], *, kind: str = "Test-Country", record_size: int = 32) -> bytes:
    """The bytes of a database; the networks must not overlap."""
    data = b""
    offsets: dict[bytes, int] = {}
    root: Node = [None, None]
    _put(root, "0" * 96, [None, None])
    for cidr, record in networks.items():
        network = ipaddress.ip_network(cidr)
        bits = format(int(network.network_address), f"0{network.max_prefixlen}b")[: network.prefixlen]
        encoded = encode(record)
        if encoded not in offsets:
            offsets[encoded] = len(data)
            data += encoded
        _put(root, "0" * 96 + bits if network.version == 4 else bits, offsets[encoded])
    ipv4: Node | int | None = root
    for _ in range(96):
        assert isinstance(ipv4, list)
        ipv4 = ipv4[0]
    _put(root, "0" * 80 + "1" * 16, ipv4)
    _put(root, format(0x2002, "016b"), ipv4)
    nodes: list[Node] = []
    numbers: dict[int, int] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in numbers:
            continue
        numbers[id(node)] = len(nodes)
        nodes.append(node)
        waiting += [child for child in node if isinstance(child, list)]

    def record_of(child: Node | int | None) -> int:
        if child is None:
            return len(nodes)
        return numbers[id(child)] if isinstance(child, list) else len(nodes) + 16 + child

    metadata = {
        "binary_format_major_version": (UINT16, 2),
        "binary_format_minor_version": (UINT16, 0),
        "build_epoch": (UINT64, 1_700_000_000),
        "database_type": kind,
        "description": {"en": "test"},
        "ip_version": (UINT16, 6),
        "languages": ["en"],
        "node_count": (UINT32, len(nodes)),
        "record_size": (UINT16, record_size),
    }
    tree = b"".join(_node(record_of(node[0]), record_of(node[1]), record_size) for node in nodes)
    return tree + bytes(16) + data + METADATA_MARKER + encode(metadata)


def encode(value: object) -> bytes:
    """One value of the data section: text, floats, maps, lists, and integers as (type, number)."""
    match value:
        case str():
            return _control(2, len(value.encode())) + value.encode()
        case float():
            return _control(3, 8) + struct.pack(">d", value)
        case (int() as kind, int() as number):
            return _control(kind, INTEGER_BYTES[kind]) + number.to_bytes(INTEGER_BYTES[kind])
        case dict():
            return _control(7, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())
        case list():
            return _control(11, len(value)) + b"".join(encode(item) for item in value)
    raise TypeError(type(value))


def _control(kind: int, size: int) -> bytes:
    """Type and size; types above 7 are written as 0 with a byte that says how far above."""
    assert size < 29
    return bytes((kind << 5 | size,)) if kind <= 7 else bytes((size, kind - 7))


def _node(left: int, right: int, record_size: int) -> bytes:
    """Two records; those of 28 bits share the middle byte, the left one's highest bits first."""
    if record_size == 28:
        return (left & 0xFFFFFF).to_bytes(3) + bytes((left >> 24 << 4 | right >> 24,)) + (right & 0xFFFFFF).to_bytes(3)
    return left.to_bytes(record_size // 8) + right.to_bytes(record_size // 8)


def _put(root: Node, bits: str, value: "Node | int | None") -> None:
    node = root
    for bit in bits[:-1]:
        child = node[int(bit)]
        if child is None:
            child = node[int(bit)] = [None, None]
        assert isinstance(child, list), "networks overlap"
        node = child
    assert node[int(bits[-1])] is None, "networks overlap"
    node[int(bits[-1])] = value
