"""Counts of work, the price of it, and the time of pipelines. See README.md of this folder."""

from rdujax.ledger.cost import Cost as Cost
from rdujax.ledger.cost import PerTier as PerTier
from rdujax.ledger.cost import parallel as parallel
from rdujax.ledger.counts import COUNTERS as COUNTERS
from rdujax.ledger.counts import Counter as Counter
from rdujax.ledger.counts import Counts as Counts
from rdujax.ledger.counts import declare as declare
from rdujax.ledger.counts import total as total
from rdujax.ledger.makespan import closed_form_cycles as closed_form_cycles
from rdujax.ledger.makespan import closed_form_is_exact as closed_form_is_exact
from rdujax.ledger.makespan import critical_path_cycles as critical_path_cycles
from rdujax.ledger.makespan import critical_stage as critical_stage
from rdujax.ledger.makespan import makespan_cycles as makespan_cycles
from rdujax.ledger.numbers import ceil_div as ceil_div
from rdujax.ledger.numbers import common as common
from rdujax.ledger.numbers import exact as exact
from rdujax.ledger.numbers import is_exact as is_exact
from rdujax.ledger.numbers import maximum as maximum
from rdujax.ledger.numbers import minimum as minimum
from rdujax.ledger.numbers import ratio as ratio
from rdujax.ledger.numbers import whole as whole
from rdujax.ledger.pipeline import Edge as Edge
from rdujax.ledger.pipeline import Pipeline as Pipeline
from rdujax.ledger.pipeline import Stage as Stage
from rdujax.ledger.pipeline import finish_times as finish_times
from rdujax.ledger.pipeline import full_rate_depths as full_rate_depths
