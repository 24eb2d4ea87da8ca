"""The exam of a family of models: every domain asked in seen and in held-out wordings, and how the router does.

Answers are greedy, of the published BF16 weights. The composition is asked as a user would: the router decides, and
where it errs, the wrong expert's answer counts; what it gives to "other" has no answer and is wrong.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from experts.composition import Composition
from experts.data.handwritten import HANDWRITTEN
from experts.data.others import OTHER
from experts.data.rough import roughened
from experts.data.splits import DOMAINS, WORDINGS, correct, examples, others
from experts.data.tasks import Example
from experts.evaluate import answers
from experts.router import calibration_error

TOGETHER = ("base", "monolith")  # models for all domains, beside the experts
ROUTED = (*WORDINGS, "rough", "by hand")  # kinds of prompts that the router is asked; rough: held-out, typed in a hurry
SHARED = 4  # an expert is asked a domain that is not its own so many times less
Told = Callable[[str], None]  # what is being examined


@dataclass(frozen=True)
class Grades:
    """Shares of right answers in one kind of wordings.

    models: by model and domain, an expert's own and others'. perfect: of experts, were every prompt routed to its own.
    composition: by domain. tasks: of each domain's own expert, by task.
    """

    models: Mapping[str, Mapping[str, float]]
    composition: Mapping[str, float]
    tasks: Mapping[str, Mapping[str, float]]

    @property
    def perfect(self) -> dict[str, float]:
        """The diagonal: every domain by its own expert."""
        return {domain: self.models[domain][domain] for domain in self.composition}


@dataclass(frozen=True)
class Routing:
    """Where prompts of one kind of wordings go. confusion: shares of labels, by the right label, "other" included.

    top1, top2: shares of prompts of all domains (not "other") whose domain is the router's first, or among its first
    two. ece: of the confidence in the first one, over all prompts, "other" included.
    """

    top1: float
    top2: float
    ece: float
    confusion: Mapping[str, Mapping[str, float]]


@dataclass
class Exam:
    """Asks so many questions of the test split of every domain, and as many prompts that no expert can answer."""

    composition: Composition
    count: int
    seed: int = 0
    told: Told = lambda line: None
    _answered: dict[tuple[str, Example], bool] = field(default_factory=dict)

    def routing(self, kind: str) -> Routing:
        """How the router does; kind: one of `ROUTED`."""
        self.told(f"router, {kind}")
        routes = {label: self.composition.routes(own) for label, own in self._prompts(kind).items()}
        confusion = {label: _shares([each.label for each in own]) for label, own in routes.items()}
        firsts = [label == each.label for label in DOMAINS for each in routes[label]]
        seconds = [label in dict(each.shares[:2]) for label in DOMAINS for each in routes[label]]
        every = [(each.confidence, label == each.label) for label, own in routes.items() for each in own]
        confidence, right = map(np.array, zip(*every, strict=True))
        ece = calibration_error(confidence, right)
        return Routing(float(np.mean(firsts)), float(np.mean(seconds)), ece, confusion)

    def _prompts(self, kind: str) -> dict[str, list[str]]:
        """Prompts of a kind by the label that is right."""
        if kind == "by hand":
            return {label: list(own) for label, own in HANDWRITTEN.items()}
        wordings, rng = kind if kind in WORDINGS else "held", Random(f"rough {self.seed}")
        asked = {domain: self._asked(domain, wordings) for domain in DOMAINS}
        asked[OTHER] = list(others("test", self.seed, self.count, wordings))
        prompts = {label: [each.prompt for each in own] for label, own in asked.items()}
        return {k: [roughened(each, rng) for each in own] for k, own in prompts.items()} if kind == "rough" else prompts

    def grades(self, wordings: str, matrix: bool = True) -> Grades:
        """How all models do. matrix: whether experts are asked what is not their own."""
        models: dict[str, dict[str, float]] = {}
        for name in (*TOGETHER, *DOMAINS):
            models[name] = {}
            for domain in DOMAINS:
                if name in (*TOGETHER, domain) or matrix:
                    asked = self._asked(domain, wordings)
                    few = len(asked) if name in (*TOGETHER, domain) else -(-len(asked) // SHARED)
                    self.told(f"{name} on {domain}, {wordings} wordings")
                    models[name][domain] = float(np.mean(self._right(name, asked[:few])))
        composition = {domain: self.composed(domain, wordings) for domain in DOMAINS}
        return Grades(models, composition, {domain: self._by_task(domain, wordings) for domain in DOMAINS})

    def _asked(self, domain: str, wordings: str) -> list[Example]:
        return list(examples(domain, "test", wordings, self.seed, self.count))

    def _right(self, name: str, asked: Sequence[Example]) -> list[bool]:
        """Which of these a model answers right; none is asked twice."""
        new = [each for each in dict.fromkeys(asked) if (name, each) not in self._answered]
        if new:
            model, tokenizer = self.composition.model(name), self.composition.tokenizer
            for example, answer in zip(new, answers(model, tokenizer, new), strict=True):
                self._answered[name, example] = correct(example, answer)
        return [self._answered[name, each] for each in asked]

    def composed(self, domain: str, wordings: str) -> float:
        """The share of a domain's questions that are right by way of the router."""
        asked = self._asked(domain, wordings)
        routes = self.composition.routes([each.prompt for each in asked])
        right = 0
        for label in DOMAINS:
            own = [each for each, way in zip(asked, routes, strict=True) if way.label == label]
            self.told(f"composition on {domain}, {wordings} wordings: {label}")
            right += sum(self._right(label, own))
        return right / len(asked)

    def _by_task(self, domain: str, wordings: str) -> dict[str, float]:
        asked = self._asked(domain, wordings)
        right: dict[str, list[bool]] = {}
        for each, good in zip(asked, self._right(domain, asked), strict=True):
            right.setdefault(each.task, []).append(good)
        return {task: float(np.mean(each)) for task, each in sorted(right.items())}


def mean(shares: Mapping[str, float]) -> float:
    """Of all domains alike."""
    return float(np.mean([shares[domain] for domain in DOMAINS]))


def _shares(labels: Sequence[str]) -> dict[str, float]:
    return {label: count / len(labels) for label, count in Counter(labels).most_common()}
