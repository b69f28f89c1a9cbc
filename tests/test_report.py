"""The page of a run: what it counts, that it asks for nothing and runs nothing, and that it fits every width."""

import csv
import functools
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, call_row, cases, read_results, sample_options, table, write_export
from importer.errors import ExitCode
from importer.ledger.reader import open_reader
from importer.records import Receipt
from importer.report.data import Report, found_run, history_report, pace_of, results_report, run_report
from importer.report.page import page_of, write_page
from ledgers import LATER_RUN, RUN, make_waiting, opened
from misbehaviour import Fault, Simulator
from schemas.vocabulary import RESULT_COLUMNS, CallState

CASES = cases("report")

HOSTILE = '<script>alert(1)</script>"\'><img src=//x.example/y onerror=z>$\\frac{$ {{7*7}} --> id="x" ]]>'
VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


def result(line: int, **cells: str) -> dict[str, str]:
    """Return one row of a results file: an accepted call, but for ``cells`` (`sender` is `from`)."""
    row = dict.fromkeys(RESULT_COLUMNS, "") | {
        "file": "day.csv",
        "line": str(line),
        "call_id": f"call{line:05}",
        "outcome": "accepted",
        "state": "busy",
        "from": "+12125550101",
        "to": "+447700900123",
        "start_time": "2026-03-02 14:00:00",
        "http_status": "200",
        "code": "SUCCESS",
        "attempts": "1",
        "sent_at": "2026-03-03 03:30:00",
    }
    return row | {{"sender": "from"}.get(name, name): value for name, value in cells.items()}


def write_results(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    """Write a results file."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, RESULT_COLUMNS, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def mixed(folder: Path) -> Path:
    """Return results with a row of each kind and hostile texts in every cell that an export or answer fills."""
    rejected = {"outcome": "rejected", "state": "", "reason": "invalid_number", "hint": f"column to: {HOSTILE}"}
    refused = {"outcome": "refused", "http_status": "400", "code": HOSTILE, "reason": "refused", "hint": HOSTILE}
    uncertain = {"outcome": "uncertain", "call_id": "call00009", "reason": HOSTILE, "http_status": "", "code": ""}
    rows = [
        result(2),
        result(3, state="noanswer", sender=HOSTILE, start_time="2026-03-03 09:30:00"),
        result(4, **rejected, file=HOSTILE),
        result(5, **rejected),
        result(6, **refused, source_id=HOSTILE, zohouser=HOSTILE),
        result(7, **uncertain),
        result(8, outcome="skipped", reason="attended", state=""),
        result(9, outcome="duplicate"),
        result(10, outcome="already_accepted", sent_at="2026-03-01 03:30:00"),
        result(11, sent_at="2026-03-03 03:35:00"),
    ]
    return write_results(folder / "results.csv", rows)


class _Page(HTMLParser):
    """Collects what a page consists of, with the rows of its tables by heading; fails on tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self._heading = ""
        elif tag == "tr":
            self.rows.setdefault(self._heading, []).append([])
        elif tag in ("td", "th"):
            self.rows[self._heading][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data
        if "h2" in self._open:
            self._heading += data
        elif "tr" in self._open and {"td", "th"} & {*self._open}:
            self.rows[self._heading][-1][-1] += data


# counting ----------------------------------------------------------------------------------------------------
def test_hours_are_local(tmp_path: Path) -> None:
    """With --timezone a call counts in the hour that the clock of that zone showed, half hours included."""
    path = write_results(tmp_path / "r.csv", [result(2, start_time="2026-03-02 14:10:00")])
    for zone, hour in ((None, 14), ("Asia/Kolkata", 19), ("America/New_York", 9)):
        assert results_report(path, zone).hours == {datetime(2026, 3, 2, hour): 1}


def test_pace(tmp_path: Path) -> None:
    """However long a run, its pace is at most some hundred spans that add up; years of no clock are left out."""
    pace = pace_of(dict.fromkeys(range(40_000), 2))
    assert pace is not None
    _, span_seconds, counts, _ = pace
    assert (len(counts) <= 120, sum(counts), span_seconds) == (True, 80_000, 600)
    times = [f"{year}-01-01 00:00:00" for year in ("0001", "1970", "2199", "9999")]
    rows = [result(2, start_time=each, sent_at=each) for each in times]
    report = results_report(write_results(tmp_path / "r.csv", rows), "Asia/Tokyo")
    assert (len(report.sent), sorted(report.hours)) == (2, [datetime(1970, 1, 1, 9), datetime(2199, 1, 1, 9)])
    pace = pace_of(report.sent)
    assert pace is not None and len(pace[2]) <= 120
    began = datetime(2026, 3, 3, 3, 30, tzinfo=UTC)
    assert pace_of(results_report(mixed(tmp_path)).sent) == (began, 5, (2, *[0] * 59, 1), ((began, 300),))


def test_endless_cells(tmp_path: Path) -> None:
    """A cell of a length that no program writes is cut, so that it fills neither the memory nor the page."""
    path = write_results(tmp_path / "r.csv", [result(2, outcome="rejected", reason="x" * 9000, hint="y" * 9000)])
    (((_, reason, *_), examples),) = results_report(path).examples.items()
    assert (len(reason), len(examples[0][1])) == (500, 500)


HEADER = ",".join(RESULT_COLUMNS) + "\n"


@table(
    ("content", "code"),
    [
        (None, 66),
        ("a,b\n1,2\n", 65),
        ("", 65),
        (f"{HEADER}{'x' * 9},1,c,sent\n", 65),
        (f'{HEADER}x,1,"c\n', 65),
        (HEADER, 0),
    ],
)
def test_what_is_no_results_file(program: Program, tmp_path: Path, content: str | None, code: int) -> None:
    """A file that is missing is exit 66, one that is no results file 65, without a page; a header is enough."""
    path, page = tmp_path / "r.csv", tmp_path / "r.csv.html"
    if content is not None:
        path.write_text(content)
    assert (program("report", path).code, page.exists()) == (code, code == 0)
    assert code or "No call was to be sent: nothing in here needs a person." in page.read_text()


# the page ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def hostile_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the page of results with hostile texts, once for all tests that look at it."""
    folder = tmp_path_factory.mktemp("page")
    write_page(folder / "page.html", lambda: results_report(mixed(folder)))
    return folder / "page.html"


@pytest.fixture
def hostile_page(hostile_path: Path) -> _Page:
    """Return that page, read."""
    return _Page(hostile_path.read_text())


def test_page_asks_for_nothing_and_runs_nothing(hostile_page: _Page, hostile_path: Path) -> None:
    """No script, no handler, no address outside: whatever stands in an export or an answer is only text."""
    page = hostile_page
    assert {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object", "a", "form"} == set()
    attributes = [(name, value or "") for _, found in page.tags for name, value in found.items()]
    assert [name for name, _ in attributes if name.startswith("on")] == []
    addresses = [value for name, value in attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert [address for address in addresses if not address.startswith("#")] == []
    assert not re.search(r"url\((?!#)|@import", "".join(value for _, value in attributes))
    assert page.text.count("alert(1)") >= 5
    assert "49" not in page.text.replace(str(hostile_path.parent), "").replace("4900", "")


def test_page_shows_the_figures_of_the_results(tmp_path: Path) -> None:
    """Beside every bar stands what the file itself counts up to, and the bar is as long as its share."""
    path = mixed(tmp_path)
    rows = read_results(path)
    calls = [row for row in rows if row["outcome"] not in ("rejected", "skipped", "duplicate")]
    page = _Page(page_of(results_report(path)))

    def figures(heading: str) -> dict[str, list[int]]:
        return {
            label: [int(cell.split()[0]) if cell else 0 for cell in cells]
            for label, _, *cells in page.rows[heading]
        }

    outcomes = Counter(row["outcome"] for row in rows)
    assert figures("Rows by outcome") == {**{name: [n] for name, n in outcomes.items()}, "attended": [1]}
    assert page.rows["From rows to accepted calls"][-1] == ["accepted", "", "3", "30.0%"]
    assert page.rows["From rows to accepted calls"][0] == ["rows read", "", "10", "100.0%"]
    for heading, column in (("Calls by state", "state"), ("Calls by agent", "from")):
        header = page.rows[heading].pop(0)
        for label, (total, *parts) in figures(heading).items():
            of_label = Counter(row["outcome"].replace("_", " ") for row in calls if row[column] == label)
            assert (total, dict(zip(header[3:], parts, strict=True))) == (
                of_label.total(),
                {name: of_label[name] for name in header[3:]},
            )
    days = page.rows["Calls by day and hour"]
    assert [(day[0], {hour: int(n) for hour, n in enumerate(day[1:]) if n}) for day in days[1:]] == [
        ("Mon 2026-03-02", {14: 5}),
        ("Tue 2026-03-03", {9: 1}),
    ]
    assert page.rows["Rejected rows"][1][:3] == ["invalid_number", "2", f"{HOSTILE}, line 4; day.csv, line 5"]
    assert page.rows["Refused by the API"][1][:4] == ["400", HOSTILE, "refused", "1"]
    drawn = {found.get("class"): found["style"] for tag, found in reversed(page.tags) if tag == "i"}
    assert (drawn["rejected"], drawn["skipped"]) == ("width:66.67%", "width:33.33%")


def test_hours_of_many_days(tmp_path: Path) -> None:
    """Where days are added up as days of the week, the field with the most calls has the strongest colour."""
    day = datetime(2026, 3, 2, 9, 30)
    rows = [result(2 + each, start_time=str(day + timedelta(weeks=each))) for each in range(9)]
    rows += [result(11 + each, start_time=str(day + timedelta(hours=1 + each))) for each in range(3)]
    page = _Page(page_of(results_report(write_results(tmp_path / "r.csv", rows))))
    assert page.rows["Calls by day and hour"][1][:14] == ["Mon", *[""] * 9, "9", "1", "1", "1"]
    shown = [found["class"] for tag, found in page.tags if tag == "td" and "h" in (found.get("class") or "")]
    assert [each for each in shown if each != "h0"] == ["h5", "h1", "h1", "h1"]


def test_letters_that_turn_the_direction_of_reading(tmp_path: Path) -> None:
    """What is no visible character is replaced everywhere: it could make a page read otherwise than it is."""
    rows = [result(2, sender="\u202e101"), result(3, outcome="refused", hint="\x1b[8m")]
    text = page_of(results_report(write_results(tmp_path / "r.csv", rows)))
    assert (text.replace("\n", "").isprintable(), "\N{REPLACEMENT CHARACTER}101" in text) == (True, True)


def test_colours_can_be_read(hostile_page: _Page, hostile_path: Path) -> None:
    """Colours stand in the style sheet only, for light and dark, and text differs from what it stands on (4.5)."""
    styles = "".join(found.get("style") or "" for _, found in hostile_page.tags)
    assert re.findall(r"#[0-9a-f]{3}|rgb|var", styles) == []

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    schemes = re.findall(r":root\{(.*?)\}", hostile_path.read_text(), re.DOTALL)
    assert len(schemes) == 2
    on_paper = [("ink", "paper"), ("muted", "paper"), ("ink", "panel")]
    on_heat = [("paper" if level > 3 else "ink", f"heat{level}") for level in range(6)]
    for scheme in schemes:
        light = {name: luminance(colour) for name, colour in re.findall(r"--(\w+):(#[0-9a-f]{6})", scheme)}
        for text, under in on_paper + on_heat:
            low, high = sorted((light[text], light[under]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, under)


def test_resolve_lines_can_be_pasted(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A line of the page settles its uncertain call when it is given to the program."""
    account.script(Fault.lost_answer())
    ledger = ("--ledger", tmp_path / "our ledger.sqlite")
    program("import", "--init-ledger", *ledger, write_export(tmp_path / "export.csv", [call_row(1)]))
    assert program("report", "--run", "last", *ledger, "--output", tmp_path / "page.html").code == 0
    text = _Page((tmp_path / "page.html").read_text()).text
    (line,) = re.findall(r"cdr-importer (resolve .* --sent .*)", text)
    assert program(*shlex.split(line)).code == 0
    assert program("status", *ledger).code == 0


def test_page_is_private_and_replaces_nothing(program: Program, tmp_path: Path) -> None:
    """The page is 0600 whatever the umask; one that is there stays as it is, unless --force says otherwise."""
    path = write_results(tmp_path / "r.csv", [result(2)])
    before = os.umask(0)
    try:
        program("report", path)
    finally:
        os.umask(before)
    page = tmp_path / "r.csv.html"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    page.write_text("mine")
    assert (program("report", path).code, page.read_text()) == (73, "mine")
    assert program("report", path, "--force").code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    ran = program("report", path, "--output", tmp_path / "no" / "page.html")
    assert (ran.code, "Name another file with --output, or with --html for `status`." in ran.stderr) == (73, True)
    assert {each.name for each in tmp_path.iterdir()} == {"r.csv", "r.csv.html"}


@table(("outcomes", "stopped", "sentence"), CASES["sentences"])
def test_page_begins_with_a_sentence(outcomes: dict[str, int], stopped: str, sentence: str) -> None:
    """Before any picture one sentence says what happened and what to do first; it counts what is pending too."""
    report = Report("Run x", "x", Counter(outcomes), stopped=stopped)
    text = _Page(page_of(report)).text
    assert sentence in text[: text.index("Source")]
    assert ("A person is needed" in text) == bool(set(outcomes) - {"accepted"})
    assert ("table of exit codes" in text) == stopped.startswith("78")


def test_agents_without_a_number_are_listed(program: Program, tmp_path: Path) -> None:
    """For whom the agents file has no number stands once, as the export names them, with the rows."""
    sample = SAMPLES / "asterisk-csv" / "master-21-columns.csv"
    program("check", *sample_options(sample), "--results", tmp_path / "r.csv", sample)
    page = _Page(page_of(results_report(tmp_path / "r.csv")))
    assert page.rows["Agents without a number in the agents file"] == [['"alice", "Alice"', "", "1"]]


def test_latest_days_are_compared(path: Path) -> None:
    """The days of the latest runs stand side by side on the clock of the zone, up to the run that is shown."""
    for number in range(16):
        run = replace(
            RUN, run_id=f"r{number:02}", started_at=f"2026-03-{number + 1:02} 03:30:00", command="import"
        )
        with opened(path, run) as ledger:
            counts = {"accepted": 10 + number, "already_accepted": 500, "pending": 2, "rejected": number}
            ledger.finish_run(ExitCode.OK, json.dumps(counts))
    with open_reader(path) as reader:
        whole = history_report(reader, path, None)
        early = run_report(reader, found_run(reader, "r02"), "America/New_York")
    assert (len(whole.latest), whole.latest[-1]) == (14, ("2026-03-16", 27, 25, 15))
    assert early.latest == (("2026-02-28", 12, 10, 0), ("2026-03-01", 13, 11, 1), ("2026-03-02", 14, 12, 2))
    rows = _Page(page_of(early)).rows["The latest days"]
    assert rows == [["Day", "Calls", "Accepted", "Rejected"], *([*map(str, day)] for day in early.latest)]


# runs and history --------------------------------------------------------------------------------------------
@pytest.fixture
def three_runs(program: Program, account: Simulator, tmp_path: Path) -> Path:
    """Leave a ledger with a run that lost an answer and met a refusal, one that knew all, and a delivery."""
    rows = [call_row(number) for number in range(6)] + [call_row(7, to="104"), call_row(8, type="received")]
    path = write_export(tmp_path / "export.csv", rows)
    account.script(Fault.lost_answer(), Fault(), Fault.refusal("INVALID_DATA"))
    program("import", "--init-ledger", "--limit", "4", "--results", tmp_path / "one.csv", path)
    program("import", "--limit", "1", "--results", tmp_path / "two.csv", path)
    program("deliver", "--results", tmp_path / "three.csv")
    return tmp_path / "ledger.sqlite"


def run_ids(program: Program) -> list[str]:
    """Return the runs of the ledger, oldest first."""
    return [line.split()[0] for line in reversed(program("status", "--runs").stdout.splitlines()[1:])]


def page_text(path: Path) -> str:
    """Return what a reader of the page sees, each piece once."""
    return re.sub(r"\s+", " ", _Page(path.read_text()).text)


def test_run_with_and_without_results(program: Program, three_runs: Path, tmp_path: Path) -> None:
    """Of a run whose results file is gone the ledger still knows counts, answers and uncertain calls."""
    first = run_ids(program)[0]
    assert program("report", "--run", first).code == 0
    by_results = page_text(tmp_path / "one.csv.html")
    (tmp_path / "one.csv").unlink()
    assert program("report", "--run", first, "--output", tmp_path / "bare.html").code == 0
    by_ledger = page_text(tmp_path / "bare.html")
    for said in (
        *("1 uncertain", "1 refused", "1 rejected", "short_number", "rows read", "Skipped because incoming 1"),
        *("INVALID_DATA", "resolve call00000 --sent", "SHA-256"),
    ):
        assert said in by_results, said
        assert said in by_ledger, said
        assert by_results.count(said) == 1 or said != "short_number"
    assert "--limit4 (Send at most N calls now; the rest stays pending)" in by_results
    assert "--max-errors20 (Stop after so many refusals)" in by_results
    assert "+447700" not in by_ledger
    assert "there is no results file" in by_ledger
    for wrong in (("--run", "20260101T000000Z-ffff"), (), ("x.csv", "--run", "last")):
        assert program("report", *wrong).code == 2


def test_run_below_uncertain_calls(program: Program, three_runs: Path, tmp_path: Path) -> None:
    """A run that ended with 4 for what earlier ones left says so where no row of its own needs a person."""
    assert program("import", write_export(tmp_path / "four.csv", [])).code == 4
    assert program("report", "--run", "last", "--output", tmp_path / "four.html").code == 0
    told = (
        "No call was to be sent: settle the uncertain calls of earlier runs (1), which `cdr-importer status` names"
    )
    assert told in page_text(tmp_path / "four.html")


def test_history_page(program: Program, three_runs: Path, tmp_path: Path) -> None:
    """`status --html` shows where all calls stand, the runs, answers, hours and what to paste."""
    assert program("status", "--html", tmp_path / "history.html", "--timezone", "Asia/Kolkata").code == 0
    text = page_text(tmp_path / "history.html")
    told = ("1 uncertain", "INVALID_DATA", "short_number", "Requests by day and hour", "Asia/Kolkata")
    assert [each for each in (*told, *run_ids(program)) if each not in text] == []
    assert program("status", "--html", tmp_path / "history.html").code == 73


# how it looks ------------------------------------------------------------------------------------------------
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--virtual-time-budget=10000", "--dump-dom"),
)
WIDTHS = (1280, 700, 400)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_page_fits_every_width_and_asks_for_nothing(hostile_path: Path, tmp_path: Path) -> None:
    """Nothing stands out to the right at any width, bars are drawn as long as they say, nothing is asked for."""
    served, asked = hostile_path.parent, list[str]()
    frames = Path(__file__).with_name("cases").joinpath("frames.html").read_text(encoding="utf-8")
    (served / "frames.html").write_text(frames % json.dumps(WIDTHS))

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            # The browser's own questions (the time, updates) are not the page's.
            if "google" not in self.headers["Host"]:
                asked.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        command = [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path}"]
        # Whatever host a page asked for, it would ask this server.
        command += [f"--host-resolver-rules=MAP * 127.0.0.1:{port}", f"http://127.0.0.1:{port}/frames.html"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        server.shutdown()
    measured = re.search(r'<p id="found">(.*?)</p>', done.stdout)
    assert measured is not None, done.stdout[-2000:]
    found = {int(width): numbers for width, numbers in json.loads(measured[1]).items()}
    assert {width: right for width, (right, _) in found.items()} == {width: width for width in WIDTHS}
    for _, bars in found.values():
        assert [drawn for _, drawn in bars] == pytest.approx(
            [float(said[:-1]) / 100 for said, _ in bars], abs=0.02
        )
    assert {*asked} == {"/frames.html", "/page.html"}


def test_uncertain_calls_of_a_late_run(tmp_path: Path) -> None:
    """A run's report has its uncertain calls, however many older ones wait in the ledger."""
    make_waiting(path := tmp_path / "ledger.sqlite", 203)
    for run, calls in ((RUN, range(201)), (LATER_RUN, range(201, 203))):
        with opened(path, replace(run, run_id=f"{run.run_id}-sent", command="deliver")) as ledger:
            for number in calls:
                ledger.mark_sending(f"call{number:05}")
                ledger.settle(Receipt(f"call{number:05}", CallState.UNCERTAIN, "lost_answer", "Look."))
            ledger.finish_run(ExitCode.UNCERTAIN, "{}")
    with open_reader(path) as reader:
        report = run_report(reader, found_run(reader, "last"), None)
    assert [call_id for call_id, *_ in report.uncertain] == ["call00201", "call00202"]
