"""What Prometheus is told: requests, tokens, times on the emulated node and of this process, and what is in HBM."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rdujax.coe.requests import PARTS
from rdujax.serve.engine import Engine
from rdujax.serve.wishes import Reply

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class Gauges:
    """Counts what happens to requests, and reads the engine whenever it is asked."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self.registry = CollectorRegistry()
        to = self.registry
        self.requests = Counter(
            "rdujax_requests", "HTTP requests for answers, by their status", ["status"], registry=to
        )
        self.given_up = Counter("rdujax_requests_given_up", "Requests whose client left before the end", registry=to)
        self.failed = Counter("rdujax_streams_failed", "Streams that ended in an error", ["code"], registry=to)
        self.wall = Histogram("rdujax_wall_seconds", "What an answer took this process", buckets=_SECONDS, registry=to)
        self._answers = Counter(
            "rdujax_answers", "Answers, by expert and what HBM had", ["expert", "cache"], registry=to
        )
        self._tokens = Counter("rdujax_tokens", "Tokens of prompts and of answers", ["direction"], registry=to)
        self._parts = Counter("rdujax_emulated_seconds", "Time of answers on the node, by part", ["part"], registry=to)
        self._first = Histogram(
            "gen_ai_server_time_to_first_token", "TTFT on the emulated node, in seconds", buckets=_SECONDS, registry=to
        )
        self._each = Histogram(
            "gen_ai_server_time_per_output_token",
            "TPOT on the emulated node, in seconds",
            buckets=_TOKEN_S,
            registry=to,
        )
        self.registry.register(_State(engine))

    def answered(self, reply: Reply) -> None:
        """One answer more."""
        served, experts = reply.served, len(reply.served.request.experts)
        cache = "none" if not experts else "hit" if served.hits == experts else "miss"
        self._answers.labels(reply.expert or "none", cache).inc()
        self._tokens.labels("in").inc(reply.tokens_in)
        self._tokens.labels("out").inc(reply.tokens_out)
        for part in PARTS:
            self._parts.labels(part.removesuffix("_ps")).inc(getattr(served, part) / 1e12)
        if experts:
            self._first.observe(served.first_token_ps / 1e12)
            if reply.tokens_out > 1:
                self._each.observe(served.per_token_ps / 1e12)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class _State:
    """What is so now, and not counted."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        state = self._engine.node.state
        yield GaugeMetricFamily("rdujax_waiting_requests", "Requests in the queue", self._engine.waiting)
        for name, what in (
            ("hbm_bytes", "Capacity of the node's HBM"),
            ("hbm_used_bytes", "Of it, what is pinned and experts"),
            ("ddr_bytes", "Capacity of the node's DDR"),
            ("ddr_used_bytes", "Of it, home copies of experts"),
        ):
            yield GaugeMetricFamily(f"rdujax_{name}", what, state[name])
        yield GaugeMetricFamily("rdujax_resident_experts", "Experts in HBM", len(state["resident"]))
        copied = GaugeMetricFamily("rdujax_copied_bytes", "Copied from DDR to HBM", labels=["kind"])
        for kind, amount in state["copied_bytes"].items():
            copied.add_metric([kind], amount)
        yield copied
