"""Bugs that a delivery may have, each seeded as one changed text in a copy of the program."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT


@dataclass(frozen=True)
class Mutation:
    """One bug: ``old`` must stand in the file exactly once. ``scenario`` names what provokes it."""

    name: str
    scenario: str
    file: str
    old: str
    new: str


CONNECTION, ATTEMPTS = "client/connection.py", "deliver/attempts.py"
CLASSIFY, LEDGER, STAGING = "client/classify.py", "ledger/ledger.py", "ledger/staging.py"

MUTATIONS = (
    Mutation(
        "library retries on, for every method",
        "lost_answers",
        CONNECTION,
        "max_retries=0)",
        "max_retries=urllib3.Retry(total=3, allowed_methods=None))",
    ),
    Mutation(
        "library retries on, for safe methods", "tls_garbage", CONNECTION, "max_retries=0)", "max_retries=3)"
    ),
    Mutation(
        "a failed send counts as not sent",
        "lost_answers",
        CLASSIFY,
        "    if failure.first_byte:\n",
        "    if failure.kind == 'no such kind':\n",
    ),
    Mutation(
        "sent again after a lost answer",
        "lost_answers",
        ATTEMPTS,
        "Proof.UNKNOWN: CallState.UNCERTAIN",
        "Proof.UNKNOWN: CallState.PENDING",
    ),
    Mutation(
        "redirects followed",
        "redirect",
        CONNECTION,
        "            response = self._adapter.send(\n                prepared,\n",
        '            self._session.mount("http://", self._adapter)\n'
        "            response = self._session.send(\n                prepared,\n"
        "                allow_redirects=True,\n",
    ),
    Mutation(
        "connection used again after an interim answer",
        "early_hints",
        "client/api.py",
        "        if classify(answer, now_epoch=0.0).proof is not Proof.TAKEN:\n",
        "        if answer.status >= 300:\n",
    ),
    Mutation(
        "any 200 is success",
        "odd_successes",
        CLASSIFY,
        '    if answer.status == 200 and words == ("success", "SUCCESS") and not body.fields.get("error"):\n',
        "    if answer.status == 200:\n",
    ),
    Mutation(
        "any word of success is success",
        "odd_successes",
        CLASSIFY,
        '    if answer.status == 200 and words == ("success", "SUCCESS") and not body.fields.get("error"):\n',
        '    if b"success" in answer.body.lower():\n',
    ),
    Mutation(
        "an answer believed before it is whole",
        "cut_answers",
        ATTEMPTS,
        "            judgement, status = judge_failure(failure), None\n",
        "            judgement, status = judge_failure(failure), None\n"
        '            if failure.kind == "cut":\n'
        '                judgement = Judgement(Proof.TAKEN, Reaction.GO_ON, code="SUCCESS")\n',
    ),
    Mutation(
        "lock skipped",
        "two_runs",
        "ledger/lock.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        pass\n",
    ),
    Mutation(
        "recovery makes in-flight calls pending",
        "kill_in_flight",
        LEDGER,
        "UPDATE calls SET state = 'uncertain', reason = 'crash'",
        "UPDATE calls SET state = 'pending', reason = 'crash'",
    ),
    Mutation(
        "recovery makes in-flight calls accepted",
        "kill_before_send",
        LEDGER,
        "UPDATE calls SET state = 'uncertain', reason = 'crash'",
        "UPDATE calls SET state = 'accepted', seq = NULL, reason = 'crash'",
    ),
    Mutation(
        "synchronous=NORMAL",
        "power_cut",
        "ledger/schema.py",
        '("synchronous", "FULL", 2)',
        '("synchronous", "NORMAL", 1)',
    ),
    Mutation(
        "intent committed after the send",
        "power_cut",
        ATTEMPTS,
        "SendHooks(self._before_first_byte, slot.written)",
        "SendHooks(lambda: None, lambda: (self._is_marked or self._before_first_byte(), slot.written()))",
    ),
    Mutation(
        "other content under a known id is sent",
        "changed_content",
        STAGING,
        "        return None if state is CallState.REFUSED else Outcome.CONFLICT\n",
        "        return None\n",
    ),
    Mutation(
        "fingerprint ignored",
        "changed_content",
        STAGING,
        "outcome = judge(before.state, same, ",
        "outcome = judge(before.state, True, ",
    ),
    Mutation(
        "refused calls sent again unasked",
        "refused_again",
        STAGING,
        "    return None if state in again else _UNCHANGED[state]",
        "    return None if state in {*again, CallState.REFUSED} else _UNCHANGED[state]",
    ),
    Mutation(
        "uncertain calls sent again unasked",
        "lost_then_imported",
        STAGING,
        "    return None if state in again else _UNCHANGED[state]",
        "    return None if state in {*again, CallState.UNCERTAIN} else _UNCHANGED[state]",
    ),
    Mutation(
        "payload of an uncertain call scrubbed",
        "lost_answers",
        LEDGER,
        "        settled = receipt.state in _SETTLED\n",
        "        settled = receipt.state in _SETTLED or receipt.state is CallState.UNCERTAIN\n",
    ),
    Mutation(
        "claim gives out uncertain calls",
        "lost_then_more",
        LEDGER,
        "FROM open_calls WHERE ledger_state = 'pending' AND seq > ? ORDER BY seq LIMIT ?",
        "FROM open_calls WHERE ledger_state IN ('pending', 'uncertain') AND seq > ? ORDER BY seq LIMIT ?",
    ),
    Mutation(
        "results praise what is pending",
        "limit",
        "records.py",
        "CallState.PENDING: Outcome.PENDING",
        "CallState.PENDING: Outcome.ACCEPTED",
    ),
    Mutation(
        "what was attended since is not looked up",
        "attended_since",
        "prepare/rows.py",
        "[found.get(call_id, False) for call_id in call_ids]",
        "[False for call_id in call_ids]",
    ),
    Mutation(
        "no reminder of what was notified",
        "attended_since",
        "ledger/reader.py",
        "SELECT call_id, state != 'closed' AND",
        "SELECT call_id, state NOT IN ('closed', 'accepted') AND",
    ),
    Mutation(
        "uncertain calls sent again though attended",
        "attended_while_uncertain",
        LEDGER,
        "WHERE state = 'uncertain' AND seq IS NOT NULL AND attended_at = ''",
        "WHERE state = 'uncertain' AND seq IS NOT NULL",
    ),
    Mutation(
        "uncertain calls of earlier nights forgotten",
        "lost_then_more",
        "pipeline/ending.py",
        "if outcomes[Outcome.UNCERTAIN] or uncertain[0]:",
        "if outcomes[Outcome.UNCERTAIN]:",
    ),
    Mutation(
        "results since a backup not believed",
        "restored_since",
        "pipeline/dead_runs.py",
        "    accepted = outcome in _TAKEN\n",
        "    accepted = False\n",
    ),
    Mutation(
        "results of the dead left unfinished",
        "kill_in_flight",
        "pipeline/stages.py",
        "        finish_dead_runs(run, ledger)\n",
        "",
    ),
)


def mutated_copy(mutation: Mutation | None, target: Path) -> Path:
    """Copy the program and change the one text; return where the copy is."""
    for package in ("importer", "schemas"):
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    if mutation is not None:
        path = target / "importer" / mutation.file
        text = path.read_text(encoding="utf-8")
        times = text.count(mutation.old)
        assert times == 1, f"{mutation.name}: the text to change stands {times} times in {mutation.file}"
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return target
