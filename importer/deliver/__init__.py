"""Calls of the ledger to the API, in batches under one limiter; what each answer proves goes back at once.

Only what is proved not applied is tried again. Everything a person must decide stays `uncertain`. The run
stops by itself when going on would only cost more: a refusing account, an outage, too many errors.

`attempts` has the requests for one call, `delivery` is the run of them all.
"""

from importer.deliver.attempts import LONGEST_WAIT_SECONDS, LOOK_EVERY_SECONDS, DeliveryListener, Service
from importer.deliver.delivery import UNANSWERED_IN_A_ROW, Delivery

__all__ = [
    "LONGEST_WAIT_SECONDS",
    "LOOK_EVERY_SECONDS",
    "UNANSWERED_IN_A_ROW",
    "Delivery",
    "DeliveryListener",
    "Service",
]
