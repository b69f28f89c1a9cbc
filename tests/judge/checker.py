"""The nine rules of delivery over a `History`; every breach is a sentence naming rule, call and evidence.

The rules, in the words of the program: 1 a complete request is repeated only after an answer that proves it was
not applied, or on an operator's word; 2 what is accepted was answered with success, or said to be sent; 3 what
is pending was never taken as far as anyone can know; 4 what is refused was answered with a refusal; 5 a request
without an answer that says something leaves the call uncertain; 6 every row of an input stands in its run's
results once, and they say what happened, what shows a call attended too; 7 uncertain are no more calls than
kills and unclear answers explain, and no run that leaves one ends as if nobody were needed; 8 the ledger is
whole, and keeps a payload exactly while a call is open; 9 nothing private is printed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from judge.answers import Meaning
from judge.history import CONTENT, Held, History, Post, Record, Results, Row

OPEN = frozenset({"pending", "sending", "uncertain"})
MAKES_PENDING = frozenset({"not_sent", "resend"})
REOPENS_REFUSED = frozenset({"retry", "new_content"})
TAKEN_OUTCOMES = frozenset({"accepted", "already_accepted"})
OTHER_OUTCOMES = frozenset({"duplicate", "rejected", "refused", "uncertain", "pending", "conflict", "skipped"})
NOBODY_LOOKS = frozenset({0, 3, 69})
"""Exit codes of a whole run that rank behind that of an uncertain call; one kept out by another run is 75."""
OURS = {70: "internal error", 74: "ledger failure on a sound disk"}


def violations(history: History) -> list[str]:
    """Return every breach of a rule, as sentences."""
    posts: defaultdict[str, list[Post]] = defaultdict(list)
    for post in sorted(history.posts, key=lambda post: post.moment):
        if post.complete:
            posts[post.call_id].append(post)
    records: defaultdict[str, list[Record]] = defaultdict(list)
    for record in sorted(history.records, key=lambda record: record.moment):
        records[record.call_id].append(record)
    found: list[str] = []
    for call_id in sorted({*posts, *history.ledger, *history.staged}):
        said = _standing(records[call_id])
        case = _Case(call_id, history.ledger.get(call_id), posts[call_id], said, history.is_recovered)
        found += case.breaches(call_id in history.staged)
    found += _results_breaches(history)
    found += _uncertain_breaches(history)
    found += _ledger_breaches(history)
    found += _leaks(history)
    found += [f"bug: a run ended with exit {code}, {OURS[code]}" for code in history.exit_codes if code in OURS]
    return found


def _standing(records: Sequence[Record]) -> list[Record]:
    """Return the records of a call without the words that were taken back."""
    kept: list[Record] = []
    for record in records:
        if record.kind == "reopened":
            words = [number for number, each in enumerate(kept) if each.kind in ("sent", "not_sent", "close")]
            for number in words[-1:]:
                del kept[number]
        else:
            kept.append(record)
    return kept


@dataclass(frozen=True)
class _Case:
    """One call against rules 1 to 5, and the part of 6 that is about the ledger; posts and records in order."""

    call_id: str
    held: Held | None
    posts: Sequence[Post]
    records: Sequence[Record]
    is_recovered: bool

    def breaches(self, is_staged: bool) -> Iterator[str]:
        yield from self._repeats()
        yield from self._after_the_last_word()
        if self.held is None:
            if (self.posts or is_staged) and not self._said("purged", "restored"):
                came = "sent" if self.posts else "taken in"
                yield self._says(6, f"it is not in the ledger, though it was {came}")
            return
        if self.held.state == "sending" and self.is_recovered:
            yield self._says(3, "it is in flight though no run is")
        checks = {"accepted": self._accepted, "pending": self._pending, "refused": self._refused}
        if check := {**checks, "closed": self._closed}.get(self.held.state):
            yield from check()

    def _says(self, rule: int, evidence: str) -> str:
        answers = ", ".join(post.meaning.value for post in self.posts) or "none"
        kinds = ", ".join(record.kind for record in self.records) or "none"
        state = self.held.state if self.held else "absent"
        said = f"(answers: {answers}; operator: {kinds})"
        return f"rule {rule}: call {self.call_id or '(no id)'} [{state}] {evidence} {said}"

    def _repeats(self) -> Iterator[str]:
        for number, (one, two) in enumerate(zip(self.posts, self.posts[1:], strict=False), start=1):
            if not self._may_follow(one, two.moment):
                answer = one.meaning.value
                yield self._says(1, f"was sent again after request {number}, which was answered: {answer}")

    def _may_follow(self, post: Post, until: float = float("inf")) -> bool:
        """Say whether the call may be pending after this request, with what was said up to then."""
        between = {record.kind for record in self.records if post.moment < record.moment < until}
        if post.meaning is Meaning.NOT_APPLIED or between & MAKES_PENDING:
            return True
        return post.meaning is Meaning.REFUSED and bool(between & REOPENS_REFUSED)

    def _after_the_last_word(self) -> Iterator[str]:
        """Tell requests for a call that a person had settled for good, or that was shown attended."""
        for record in self.records:
            if record.kind in ("sent", "close", "forgotten", "corrected", "attended"):
                later = sum(post.moment > record.moment for post in self.posts)
                # A ledger restored from before it does not know what an export showed.
                if later and not (record.kind == "attended" and self._said("restored")):
                    yield self._says(1, f"was sent {later} times after it was settled with {record.kind}")

    def _is_last(self, *meanings: Meaning) -> bool:
        return bool(self.posts) and self.posts[-1].meaning in meanings

    def _accepted(self) -> Iterator[str]:
        taken = sum(post.meaning is Meaning.TAKEN for post in self.posts)
        if not taken and not self._said("sent"):
            yield self._says(
                5 if self._is_last(Meaning.NOTHING) else 2, "is accepted without an answer of success"
            )
        if taken > 1 + self._said(*MAKES_PENDING):
            yield self._says(2, f"was answered {taken} times with success")

    def _pending(self) -> Iterator[str]:
        if self.posts and not self._may_follow(self.posts[-1]):
            rule = 5 if self._is_last(Meaning.NOTHING) else 3
            yield self._says(rule, "is pending although the service may hold it")

    def _refused(self) -> Iterator[str]:
        was_refused = any(post.meaning is Meaning.REFUSED for post in self.posts)
        if not self._is_last(Meaning.REFUSED) and not (was_refused and self._said("restored")):
            rule = 5 if self._is_last(Meaning.NOTHING) else 4
            yield self._says(rule, "is refused without an answer that refuses it")

    def _closed(self) -> Iterator[str]:
        if not self._said("close", "corrected", "forgotten", "attended"):
            yield self._says(2, "is closed though nobody closed it")

    def _said(self, *kinds: str) -> int:
        return sum(record.kind in kinds for record in self.records)


def _results_breaches(history: History) -> Iterator[str]:
    taken_posts = defaultdict(list)
    for post in history.posts:
        if post.complete and post.meaning is Meaning.TAKEN:
            taken_posts[post.call_id].append(post)
    said_sent = {record.call_id for record in history.records if record.kind == "sent"}
    restored = {record.call_id for record in history.records if record.kind == "restored"}
    claims: Counter[str] = Counter()
    for results in history.results:
        yield from _places_breaches(results)
        for row in results.rows:
            claims[row.call_id] += row.outcome == "accepted"
            if row.outcome in TAKEN_OUTCOMES and row.call_id not in said_sent:
                # Of a call that a restored ledger has from results alone, no content is known.
                is_any = row.outcome == "already_accepted" and row.call_id in restored
                yield from _claim_breaches(results, row, taken_posts[row.call_id], is_any_content=is_any)
    for call_id, times in claims.items():
        if times > (taken := len(taken_posts[call_id])) > 0:
            yield f"rule 6: call {call_id} is reported accepted {times} times, the service took it {taken} times"


def _places_breaches(results: Results) -> Iterator[str]:
    met = Counter((row.file, row.line) for row in results.rows)
    for file, line in results.input:
        if met[file, line] != 1:
            yield f"rule 6: run {results.run} reports {file} line {line} {met[file, line]} times"
    for (file, line), wanted in results.attended.items():
        told = ", ".join(row.outcome for row in results.rows if (row.file, row.line) == (file, line))
        if told != wanted:
            yield (
                f"rule 6: run {results.run} reports {file} line {line}, which shows a call attended, as "
                f"{told or 'nothing'} and not as {wanted or 'nothing'}"
            )
    for row in results.rows:
        if row.outcome not in TAKEN_OUTCOMES | OTHER_OUTCOMES:
            yield f"rule 6: run {results.run} reports call {row.call_id} as {row.outcome!r}, which is no outcome"


def _claim_breaches(results: Results, row: Row, taken: Sequence[Post], *, is_any_content: bool) -> Iterator[str]:
    claim = f"rule 6: run {results.run} reports call {row.call_id} as {row.outcome}"
    contents = [tuple(dict(post.content).get(name, "") for name in CONTENT) for post in taken]
    if not taken:
        yield f"{claim}, the service never took it"
    elif row.content and row.content not in contents and not is_any_content:
        yield f"{claim} with content that was not sent"


def _uncertain_breaches(history: History) -> Iterator[str]:
    unclear = Counter(post.call_id for post in history.posts if post.complete and post.meaning is Meaning.NOTHING)
    nameless = sum(not post.complete for post in history.posts)
    explained = sum(death.workers for death in history.deaths) + nameless + unclear.total()
    held = [call for call in history.ledger.values() if call.state == "uncertain"]
    decided = sum(record.kind in ("sent", "not_sent", "close", "resend") for record in history.records)
    restored = sum(record.kind in ("restored", "reopened") for record in history.records)
    if len(held) + decided > explained + restored:
        evidence = (
            f"{len(history.deaths)} kills and {nameless + unclear.total()} unclear answers explain {explained}"
        )
        yield f"rule 7: {len(held)} calls are uncertain and {decided} were, but {evidence}"
    for code, left in history.left_uncertain:
        if left and code in NOBODY_LOOKS:
            yield f"rule 7: a run ended with exit {code} and left {left} uncertain calls"
    needless = [call for call in held if call.reason != "crash" and not restored and not unclear[call.call_id]]
    if len(needless) > nameless:
        call = f"call {needless[0].call_id} is uncertain ({needless[0].reason})"
        yield f"rule 7: {call}, though no answer to it was unclear"


def _ledger_breaches(history: History) -> Iterator[str]:
    if history.integrity != "ok":
        yield f"rule 8: the ledger is damaged: {history.integrity}"
    for call in history.ledger.values():
        if call.has_payload != (call.state in OPEN):
            has = "has" if call.has_payload else "has lost"
            yield f"rule 8: call {call.call_id} [{call.state}] {has} its payload"


def _leaks(history: History) -> Iterator[str]:
    secret = [(name, text, history.canaries) for name, text in history.files.items()]
    secret += [(name, text, [*history.canaries, *history.numbers]) for name, text in history.outputs.items()]
    for name, text, words in secret:
        for word in words:
            if word.encode() in text:
                yield f"rule 9: {name} holds {word[:4]}..., which is private"
