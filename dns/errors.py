"""The root of what can go wrong in dns/ for reasons outside the program."""

from anycastle.errors import AnycastleError


class DnsError(AnycastleError):
    """The nameserver cannot be started or changed; `str(error)` is one clear line for an operator."""
