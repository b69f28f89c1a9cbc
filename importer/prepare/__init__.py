"""Chunks of text to calls and outcomes: evidence of each row, one call out of its rows, agents, ids, validity."""

from importer.prepare.agents import AgentBook, load_agents
from importer.prepare.calls import Prepared
from importer.prepare.evidence import call_id_of
from importer.prepare.plan import Policies, PolicyBook, PreparePlan
from importer.prepare.preparation import Preparation, PreparedPart, prepare_part

__all__ = [
    "AgentBook",
    "Policies",
    "PolicyBook",
    "Preparation",
    "PreparePlan",
    "Prepared",
    "PreparedPart",
    "call_id_of",
    "load_agents",
    "prepare_part",
]
