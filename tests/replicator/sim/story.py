"""What happened in a simulation, for people: printed on a replay, otherwise not even composed."""

from anycastle.replicator import event as e
from anycastle.replicator import message as m


class Story:
    """Lines of virtual time, place and fact."""

    def __init__(self, *, told: bool) -> None:
        self.told = told
        self.lines: list[str] = []

    def tell(self, t: float, who: str, text: str) -> None:
        self.lines.append(f"{t:9.3f}  {who:<5} {text}")

    def event(self, t: float, who: str, event: e.Event) -> None:
        match event:
            case e.Tick():
                pass
            case e.Absent(_, members):
                self.tell(t, who, f"*  takes for absent: {sorted(members)}")
            case e.Received(member, message):
                self.tell(t, who, f"<- {member}  {show(message)}")
            case _:
                self.tell(t, who, f"*  {event}")

    def command(self, t: float, who: str, command: e.Command) -> None:
        match command:
            case e.Send(member, message):
                self.tell(t, who, f"-> {member}  {show(message)}")
            case e.PeerLanded() | e.StoreFenced():
                pass
            case e.Record():
                what = f"{command.origin} {command.after + 1}..{command.upto}"
                self.tell(t, who, f"   record {what}{' as lost' if command.lost else ''}")
            case _:
                self.tell(t, who, f"   {command}")


def show(message: m.Message) -> str:
    match message:
        case m.Entries():
            after, upto = message.stretch()
            return f"{'lost' if message.lost else 'entries'} {message.origin} {after + 1}..{upto}"
        case m.LeaseRequest():
            return f"lease? sent {message.sent:.3f} #{message.incarnation} recorded {_flat(message.recorded)}"
        case m.LeaseGrant():
            return f"lease  sent {message.sent:.3f} #{message.incarnation} recorded {_flat(message.recorded)}"
        case m.Ack():
            out = {holder: round(seconds, 3) for holder, seconds in message.outstanding.items()}
            return f"ack {message.origin} {message.upto} ({message.detailed} in detail) outstanding {out}"
        case m.Landed():
            return f"landed {message.landed} current {message.current}"
        case _:
            return str(message)


def _flat(vectors: m.Vectors) -> str:
    return " ".join(f"{origin}:{seq}" for origins in vectors.values() for origin, seq in sorted(origins.items()))
