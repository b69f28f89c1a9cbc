"""Section I: local times that are not or are twice, clocks that jump, nights that are too long or too short."""

import socket
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from certificates import make_expired_certificate
from conftest import Program, call_row, read_results, write_export
from faults.night import Night
from importer.errors import ExitCode
from importer.pipeline import new_run_id
from importer.settings import Rate
from misbehaviour import Fault, Simulator
from runs import OwnTime, imported
from steps import Step, at

FREEPBX = (
    "calldate,clid,src,dst,dcontext,channel,dstchannel,lastapp,lastdata,duration,billsec,disposition,amaflags,"
    "accountcode,uniqueid,userfield,did,cnum,cnam,outbound_cnum,outbound_cnam,dst_cnam,recordingfile,linkedid,"
    "peeraccount,sequence"
)


def freepbx_row(calldate: str, unique: str) -> str:
    """Return an unanswered outgoing call of FreePBX; an id without an epoch proves nothing of the time."""
    return (
        f"{calldate},,12125550100,+12125550142,from-internal,PJSIP/101-{unique},PJSIP/trunk-{unique},Dial,"
        f'"PJSIP/+12125550142@trunk,30",32,0,NO ANSWER,3,,{unique},,,101,Ann,+12125550100,Ann,,,{unique},,1'
    )


LOCAL_TIMES = {
    "2026-03-08 02:30:00": "nonexistent_time",
    "2026-11-01 01:30:00": "ambiguous_time",
    "2026-03-08 03:00:00": "2026-03-08 07:00:00",
    "2026-03-08 01:59:59": "2026-03-08 06:59:59",
    "2025-12-31 23:59:59": "2026-01-01 04:59:59",
    "2026-03-02 23:59:60": "unreadable_time",
    "2026-03-02 24:00:00": "unreadable_time",
    "26-03-02 10:00:00": "unreadable_time",
    "1772547247000": "unreadable_time",
    "2026-02-29 10:00:00": "unreadable_time",
}
"""Times of New York, and what each is: its time in GMT, or why it is rejected."""


@pytest.mark.fault(126, 127, 134)
def test_local_times(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A time that the clock skipped, showed twice or cannot show is rejected; the others are exact in GMT."""
    rows = [freepbx_row(text, f"x{number}") for number, text in enumerate(LOCAL_TIMES)]
    path, results = tmp_path / "export.csv", tmp_path / "results.csv"
    path.write_text("\n".join((FREEPBX, *rows)) + "\n")
    options = ("--timezone", "America/New_York", "--default-agent-number", "+12125550101", "--results", results)
    ran = program("import", "--init-ledger", *options, path)
    found = {row["line"]: row["start_time"] or row["reason"] for row in read_results(results)}
    assert found == {str(line): wanted for line, wanted in enumerate(LOCAL_TIMES.values(), start=2)}
    sent = {arrival.fields["start_time"] for arrival in account.arrivals}
    assert (ran.code, sent) == (3, {each for each in LOCAL_TIMES.values() if each[0] == "2"})


# clocks ------------------------------------------------------------------------------------------------------


def by(clock: OwnTime) -> dict[str, object]:
    """Return what makes a run go by this wall clock."""
    now = clock.wall_clock()
    return {"run_id": new_run_id(now), "now": now, "wall_clock": clock.wall_clock}


@pytest.mark.fault(129)
@pytest.mark.parametrize("seconds", [3600, -3600, 86_400 * 365])
def test_clock_set_in_mid_run(account: Simulator, tmp_path: Path, seconds: float) -> None:
    """A clock set forward or back disturbs neither pace nor calls; what is noted is what it showed."""
    path = write_export(tmp_path / "export.csv", [call_row(number) for number in range(4)])
    clock = OwnTime(wall_start=time.time())
    began = time.monotonic()
    summary = imported(path, step=at(Step.NOTED, 2, lambda: clock.sleep(seconds)), **by(clock))
    assert (summary.exit_code, len(account.arrivals), len(account.accepted)) == (ExitCode.OK, 4, 4)
    rows = read_results(tmp_path / "results.csv")
    sent_at = [datetime.fromisoformat(row["sent_at"]).timestamp() for row in rows]
    assert abs(sent_at[2] - sent_at[1] - seconds) < 30
    assert time.monotonic() - began < 30
    assert account.token_requests <= 2


DAY = 86_400.0


@pytest.mark.fault(129)
@pytest.mark.parametrize(
    ("during", "between"),
    [
        *((0.0, seconds) for seconds in (0.0, 3600.0, -3600.0, 400 * DAY, -400 * DAY)),
        *((3600.0, seconds) for seconds in (0.0, 3600.0, -3601.0, -400 * DAY)),
        *((-3600.0, seconds) for seconds in (0.0, -3600.0, -400 * DAY)),
    ],
)
def test_rate_beside_a_clock_that_is_set(night: Night, during: float, between: float) -> None:
    """A clock set within a run, or before the next, lets no more than the rate through and holds nobody up."""

    def put_on(seconds: float) -> None:
        night.ahead_seconds += seconds

    night.take_in(16)
    at_once = {"rate": Rate(5, 60.0), "burst": True}
    night.run(**at_once, limit=5, step=at(Step.NOTED, 3, lambda: put_on(during)))
    put_on(between)
    runs = [night.run(**at_once, limit=limit) for limit in (5, 1, 5)]
    moments = [arrival.moment for arrival in night.api.arrivals]
    assert {run.code for run in runs} == {0}
    assert all(later - earlier >= 60 for earlier, later in zip(moments, moments[5:], strict=False))
    assert moments[-1] - moments[0] < 5 * 60
    night.time.now += 120
    told = [any("clock was ahead" in note for note in run.notes) for run in (runs[0], night.run())]
    assert told == [min(0.0, during) + between < 0, False]


@pytest.mark.fault(129)
@pytest.mark.parametrize(("ahead", "held"), [(400 * DAY, 6 * 3600), (0.0, 1000), (-3600.0, 1000)])
def test_wait_that_a_clock_left(night: Night, ahead: float, held: float) -> None:
    """A wait asked for by a clock that was wrong ends in time once it is right: at the latest after 6 hours."""
    night.take_in(1)
    night.ahead_seconds = ahead
    night.api.script(Fault(status=429, headers=(("Retry-After", "1000"),)))
    assert night.run().why == (75, "throttled")
    night.ahead_seconds = 0.0
    early = night.run()
    assert (early.why, any("clock" in note for note in early.notes)) == ((75, "held"), ahead != 0)
    night.time.now = 1000 + held - 10
    assert night.run(max_runtime=1.0).why == (75, "held")
    night.time.now += 20
    assert night.run().why == (0, "done")


@pytest.mark.fault(132)
def test_run_over_new_year(account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes from one year, day and hour into the next has one id and times in GMT, whatever the zone."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        path = write_export(tmp_path / "export.csv", [call_row(number) for number in range(2)])
        clock = OwnTime(wall_start=1_798_761_590.0)  # 2026-12-31 23:59:50 GMT
        summary = imported(path, step=at(Step.NOTED, 1, lambda: clock.sleep(60)), **by(clock))
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    days = [row["sent_at"][:10] for row in read_results(tmp_path / "results.csv")]
    assert (summary.exit_code, days) == (ExitCode.OK, ["2026-12-31", "2027-01-01"])
    assert summary.run_id.startswith("20261231T2359")


@pytest.mark.fault(130)
def test_clock_years_off(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates out of date by our clock end the run with 78 and a word about the clock; nothing is sent."""
    made = make_expired_certificate(tmp_path, "localhost")
    context = made.server_context()
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer, suppress(OSError):
                requests.append(context.wrap_socket(peer, server_side=True).recv(1))

        server = threading.Thread(target=serve)
        server.start()
        monkeypatch.setenv("CDR_IMPORTER_ACCOUNTS_URL", f"https://localhost:{listening.getsockname()[1]}")
        path = write_export(tmp_path / "export.csv", [call_row(1)])
        ran = program("import", "--init-ledger", "--ca-bundle", made.path, path)
        server.join(10)
    assert (ran.code, "clock" in ran.stderr, ran.summary()["pending"]) == (78, True, "1")
    assert (requests, account.arrivals) == ([], ())
