"""`anycastle pki`: the authority and the members' certificates, on this machine alone.

Law: nobody is asked; exit status 1 of `show` means that something ends soon, so that a timer can mail.
"""

import argparse
from datetime import UTC, datetime

from anycastle.clock import SystemClock
from anycastle.commands import CommandError, Json, as_json
from anycastle.replicator import certificate, pki


def pki_init(options: argparse.Namespace) -> int:
    print(f"made {pki.init(options.folder)}")
    return 0


def pki_issue(options: argparse.Namespace) -> int:
    made, key = pki.issue(options.folder, options.member)
    print(f"made {made} and {key}")
    return 0


def pki_renew(options: argparse.Namespace) -> int:
    made, key = pki.renew(options.folder, options.member)
    print(f"made {made} and {key} anew; a running member takes them up by itself")
    return 0


def pki_show(options: argparse.Namespace) -> int:
    """1 when something ends soon: for a timer that mails."""
    files = [file for place in options.files for file in (sorted(place.glob("*.pem")) if place.is_dir() else [place])]
    found = [each for file in files for each in certificate.read(file)]
    if not found:
        raise CommandError("no certificate there: expected what `anycastle pki` makes")
    wall = SystemClock().wall()
    rows: list[Json] = [
        {
            "file": str(each.file),
            "names": list(each.names),
            "kind": "authority" if each.authority else "member",
            "valid_from": _day(each.valid_from),
            "valid_until": _day(each.valid_until),
            "days_left": round(each.days_left(wall), 1),
            "fingerprint": each.fingerprint,
        }
        for each in found
    ]
    faults = [fault for each in found if (fault := each.fault(wall))]
    if not as_json(options, {"certificates": rows, "faults": faults}):
        for row in rows:
            print(f"{row['file']}: {row['kind']} {', '.join(row['names'])}")
            print(f"  valid from {row['valid_from']} until {row['valid_until']}, {row['days_left']:g} days left")
            print(f"  SHA-256 {row['fingerprint']}")
        for fault in faults:
            print(f"note: {fault}")
    return 1 if faults else 0


def _day(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M UTC")
