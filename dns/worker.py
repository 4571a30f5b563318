"""One DNS worker process: `python -m anycastle.dns.worker CONTROL_DESCRIPTOR`, started by `anycastle.dns.server` only.

Law: one thread, one loop, nothing waits. Nothing is read from the DNS sockets before there are tables and a view, so
early queries wait in the kernel instead of getting an answer from unknown health. When its control socket ends, it
lets go of the DNS sockets at once (the next worker may be reading the same ones), answers what it was asked over TCP,
and ends: none outlives its control process for longer. Its clock is CLOCK_BOOTTIME too, so times in a view are valid.
"""

import logging
import pickle
import secrets
import select
import signal
import socket
import sys
from collections.abc import Iterator

import msgspec

from anycastle.clock import Clock, SystemClock
from anycastle.dns.decider import Decider
from anycastle.dns.frame import FrameBuffer, Kind, Report, Setup, encode_frame
from anycastle.dns.limit import Verdict
from anycastle.dns.respond import has_valid_cookie, new_counters, respond, respond_truncated
from anycastle.dns.rights import give_up
from anycastle.dns.secondary import COUNTERS as SECONDARY_COUNTERS
from anycastle.dns.secondary import concerns, respond_secondary
from anycastle.dns.stream import Streams
from anycastle.dns.tables import Tables, with_fastest
from anycastle.dns.template import adopt
from anycastle.dns.touched import touched
from anycastle.dns.udp import IS_COMPILED, UdpPath, make_limiter, make_path
from anycastle.dns.view_change import ViewChange, applied, difference, without_itself
from anycastle.health.view import View

REPORT_SECONDS = 1.0
LEAVE_SECONDS_MAX = 10.0
"""For zone transfers and slow readers when the control process has gone; it may have ended us before."""
CONTROL_READ_BYTES = 1 << 20
FAULT_LOG_SECONDS = 10.0
"""At most one logged packet in this time: whoever found a packet that makes us fail will send more of it."""
WAIT_SECONDS_MAX = 0.5
TIDY_SECONDS = 0.05
"""How often idle connections and the next report are looked for: not with every query."""

_log = logging.getLogger("anycastle.dns.worker")


class Worker:
    """The sockets and what is needed to answer."""

    def __init__(self, control: socket.socket, *, clock: Clock) -> None:
        self._clock = clock
        self._now = clock.now()
        self._wall = clock.wall()
        self._control = control
        self._frames = FrameBuffer()
        self._poller = select.epoll()
        self._poller.register(control, select.EPOLLIN)
        self._unsent = b""
        self._open = True
        self._leave_by = 0.0
        self._setup: Setup | None = None
        self._tables: Tables | None = None
        self._tables_taken = 0
        self._view: View | None = None
        self._shown: View | None = None
        """What is decided from: the view, or while the control process is silent the same without this site."""
        self._heard_at = self._now
        self._silent = False
        self._decider: Decider | None = None
        self._udp: dict[int, socket.socket] = {}
        self._streams: Streams | None = None
        self._limiter = make_limiter(0, 0)
        self._path: UdpPath | None = None
        self._counters = (
            new_counters()
            | dict.fromkeys(SECONDARY_COUNTERS, 0)
            | {"limited": 0, "send_failed": 0, "tcp_connections": 0}
        )
        self._report_at = self._tidy_at = 0.0
        self._fault_logged_at = float("-inf")

    def run(self) -> None:
        """Until the control process closes its end, and then for what has been asked already."""
        while self._open or self._leaving():
            events = self._poller.poll(WAIT_SECONDS_MAX)
            self._now = self._clock.now()
            self._wall = self._clock.wall()
            for descriptor, _ in events:
                self._ready(descriptor)
            if self._streams is not None and self._now >= self._tidy_at:
                self._tidy_at = self._now + TIDY_SECONDS
                self._streams.close_idle(self._now)
                if self._open:
                    self._heed_silence()
                    self._report()
        self._close()

    def _ready(self, descriptor: int) -> None:
        udp = self._udp.get(descriptor)
        if udp is not None:
            self._serve_udp(udp)
        elif descriptor == self._control.fileno():
            self._receive_control()
        elif self._streams is not None:
            self._streams.ready(descriptor, self._now)

    def _serve_udp(self, udp: socket.socket) -> None:
        path = self._path
        assert path is not None
        for packet, source, address, verdict in path.serve(udp, now=self._now, wall=self._wall):
            reply = self._answer_udp(packet, source, verdict)
            if reply is not None:
                path.send(udp, reply, address)

    def _answer_udp(self, packet: bytes, source: bytes, verdict: Verdict) -> bytes | None:
        """The whole way, for what is not kept."""
        assert self._tables is not None
        if verdict is not Verdict.PASS and has_valid_cookie(packet, source, self._tables, wall=self._wall):
            verdict = Verdict.PASS  # nobody forges that address
        match verdict:
            case Verdict.PASS:
                if (adopted := self._adopted(packet, source)) is not None:
                    return adopted
                reply = self._answer(packet, source, tcp=False)
                assert reply is None or isinstance(reply, bytes)
                return reply
            case Verdict.SLIP:
                self._counters["limited"] += 1
                return respond_truncated(packet, source, self._tables, wall=self._wall)
            case Verdict.DROP:
                self._counters["limited"] += 1
                return None

    def _adopted(self, packet: bytes, source: bytes) -> bytes | None:
        """The answer of other names of its kind, for a steered name that is asked for the first time."""
        assert self._tables is not None
        if self._decider is None or self._path is None:
            return None
        shelf = self._path.shelf
        if not adopt(shelf, packet, self._tables, self._decider, now=self._now):
            return None
        return shelf.answer(packet, source, now=self._now, wall=self._wall)

    def _answer_tcp(self, packet: bytes, source: bytes) -> bytes | Iterator[bytes] | None:
        reply = self._answer(packet, source, tcp=True)
        return reply if reply is None or isinstance(reply, bytes) else self._guard(reply, packet)

    def _guard(self, messages: Iterator[bytes], packet: bytes) -> Iterator[bytes]:
        """A fault of ours in the middle of a transfer ends its connection, not the worker."""
        try:
            yield from messages
        except Exception as fault:
            self._counters["faults"] += 1
            _log.exception("a transfer broke off because of a fault of ours; the query was %s", packet.hex())
            raise ConnectionAbortedError from fault

    def _answer(self, packet: bytes, source: bytes, *, tcp: bool) -> bytes | Iterator[bytes] | None:
        assert self._tables is not None
        counters = self._counters
        faults = counters["faults"]
        reply: bytes | Iterator[bytes] | None
        if concerns(packet):
            reply = respond_secondary(
                packet,
                source=source,
                tcp=tcp,
                tables=self._tables,
                decider=self._decider,
                now=self._now,
                wall=self._clock.wall,
                counters=counters,
            )
        else:
            reply = respond(
                packet,
                source=source,
                tcp=tcp,
                tables=self._tables,
                decider=self._decider,
                now=self._now,
                wall=self._wall,
                counters=counters,
                keeper=self._path.shelf if self._path is not None else None,
            )
        if counters["faults"] != faults and self._now - self._fault_logged_at >= FAULT_LOG_SECONDS:
            self._fault_logged_at = self._now
            _log.error("answered SERVFAIL because of a fault of ours; the query was %s", packet.hex())
        return reply

    def _receive_control(self) -> None:
        try:
            data = self._control.recv(CONTROL_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave()
            return
        self._heard_at = self._now
        self._heed_silence()
        for kind, payload in self._frames.feed(data):
            self._apply(kind, payload)
        if self._setup and self._tables and self._view:
            if self._decider is None:
                self._decider = Decider(self._tables.steering, self._shown or self._view)
                self._collect()
                self._path = make_path(self._tables, self._limiter)
            if self._streams is None:
                self._begin(self._setup)

    def _apply(self, kind: Kind, payload: bytes) -> None:
        match kind:
            case Kind.SETUP:
                self._setup = msgspec.msgpack.decode(payload, type=Setup)
                self._limiter = make_limiter(self._setup.responses_per_second_max, secrets.randbits(64))
            case Kind.TABLES:
                tables = pickle.loads(payload)
                assert isinstance(tables, Tables)
                self._tables = tables
                self._tables_taken += 1
                self._decider = None  # and all that was kept, with it
            case Kind.VIEW:
                self._view = self._shown = msgspec.msgpack.decode(payload, type=View)
                self._decider = None
            case Kind.CHANGE:
                self._change(msgspec.msgpack.decode(payload, type=ViewChange))
            case Kind.RTT:
                self._lay(payload)
            case Kind.BEAT:
                pass
            case Kind.REPORT:
                raise AssertionError("only workers report")

    def _change(self, change: ViewChange) -> None:
        """Only what the change touches is decided anew."""
        assert self._view is not None, "a change follows a view"
        self._view = applied(self._view, change)
        self._show(self._view, change)

    def _show(self, view: View, change: ViewChange) -> None:
        assert self._shown is not None
        before, self._shown = self._shown, view
        if self._decider is not None and self._path is not None:
            self._decider.change(view, touched(before, change, self._decider.steering.sites))
            self._path.shelf.forget(self._decider.take_forgotten())

    def _heed_silence(self) -> None:
        """A hung control process is a hung edge: then we say of our site only what others would, that it is unknown."""
        if self._setup is None or self._view is None or self._shown is None:
            return
        silent = self._now - self._heard_at > self._setup.silence_seconds_max
        if silent != self._silent:
            self._silent = silent
            _log.warning("event=control-%s", "silent" if silent else "heard-again")
            view = without_itself(self._view, now=self._now) if silent else self._view
            self._show(view, difference(self._shown, view))

    def _lay(self, overlay: bytes) -> None:
        """Only names that go by speed are decided anew."""
        assert self._tables is not None, "an overlay follows its tables"
        self._tables = with_fastest(self._tables, overlay)
        if self._decider is not None and self._path is not None:
            self._decider.lay(self._tables.steering)
            self._path.shelf.forget(self._decider.take_forgotten())
            if self._tables.steering.fastest is not None:
                self._path.shelf.lay(self._tables.steering.fastest)

    def _begin(self, setup: Setup) -> None:
        """Everything is there: read the DNS sockets from now on."""
        self._streams = Streams(
            self._poller,
            connections_max=setup.tcp_connections_max,
            connections_per_client_max=setup.tcp_connections_per_client_max,
            idle_seconds=setup.tcp_idle_seconds,
            answer=self._answer_tcp,
        )
        for descriptor in setup.udp_descriptors:
            udp = socket.socket(fileno=descriptor)
            self._udp[descriptor] = udp
            self._poller.register(udp, select.EPOLLIN)
        for descriptor in setup.tcp_descriptors:
            self._streams.listen(socket.socket(fileno=descriptor))

    def _report(self) -> None:
        """Counters each second, as heartbeat; while one waits to be read there is no second."""
        if self._now >= self._report_at and not self._unsent:
            assert self._view is not None
            assert self._streams is not None
            self._report_at = self._now + REPORT_SECONDS
            self._counters["tcp_connections"] = self._streams.count()
            self._collect()
            report = Report(
                counters=self._counters, view_generation=self._view.generation, tables_taken=self._tables_taken
            )
            self._unsent = encode_frame(Kind.REPORT, msgspec.msgpack.encode(report))
        if self._unsent:
            try:
                self._unsent = self._unsent[self._control.send(self._unsent) :]
            except BlockingIOError:
                return
            except OSError:
                self._leave()

    def _collect(self) -> None:
        """What the short way counted."""
        if self._path is not None:
            self._path.collect(self._counters)

    def _leave(self) -> None:
        """Each datagram that was received has been answered; those that were not are another worker's, or nobody's."""
        if not self._open:
            return
        self._open = False
        self._poller.unregister(self._control)
        self._leave_by = self._now + LEAVE_SECONDS_MAX
        for udp in self._udp.values():
            self._poller.unregister(udp)  # closing is not enough where another process has it too
            udp.close()
        self._udp.clear()
        if self._streams is not None:
            self._streams.leave(self._now)

    def _leaving(self) -> bool:
        return self._streams is not None and self._streams.count() > 0 and self._now < self._leave_by

    def _close(self) -> None:
        if self._streams is not None:
            self._streams.close()
        self._control.close()
        self._poller.close()


def main() -> None:
    """The process."""
    # A terminal's Ctrl-C reaches the whole process group; the control process decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    give_up()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if not IS_COMPILED:
        _log.warning("the compiled answer path is not built: answers cost more CPU (docs/dns.md)")
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)
    Worker(control, clock=SystemClock()).run()


if __name__ == "__main__":
    main()
