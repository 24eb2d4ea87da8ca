"""What is trained, on what, from what and for how long.

    tokenizer <- texts of all
    base      <- questions of all domains, library sources      then from it:
    experts   <- questions of one domain each
    monolith  <- questions of all domains, as many tokens as the router and all experts together

Only training splits and seen wordings are read here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from random import Random

from experts import tokenizer as tokenizers
from experts.data.corpus import library_texts
from experts.data.splits import DOMAINS, examples
from experts.llama import Config
from experts.tokenizer import Tokenizer
from experts.training import routing
from experts.training.loop import Schedule
from experts.training.packing import Batch, Text, packed
from experts.training.texts import answered, windows

VOCAB, LENGTH, ROWS = 1024, 144, 28  # tokens of the vocabulary, of a row; rows of a batch
CONFIG = Config(
    d_model=96, layers=4, heads=4, kv_heads=2, d_ff=256, vocab=VOCAB, positions=256, tied=True, dtype="float32"
)
LIBRARY = 0.1  # of the texts of the base model, the share that are windows of sources
QUESTION = 0.1  # weight of the tokens of a question, which need not be foreseen
STEPS = {
    "math": 500, "translate": 700, "code": 100, "sql": 100, "json": 400, "lists": 800, "roman": 50, "units": 250,
}  # fmt: skip
Source = Callable[[Tokenizer, Random], Iterator[Text]]


@dataclass(frozen=True)
class Recipe:
    """A model: what it begins as ("" for random weights), what its batches are drawn from, and its schedule."""

    name: str
    begins: str
    source: Source
    schedule: Schedule

    def batch(self, tokenizer: Tokenizer, seed: int, step: int) -> Batch:
        """The batch of a step: the same for the same seed, whatever was drawn before."""
        return packed(self.source(tokenizer, Random(f"{self.name} {seed} {step}")), ROWS, LENGTH)


def recipes() -> tuple[Recipe, ...]:
    """All models, in an order in which what one begins as is there."""
    base = Recipe("base", "", _base, Schedule(6500, 3e-3, warm=100))
    experts = (Recipe(d, "base", partial(_questions, (d,)), Schedule(STEPS[d], 1.5e-3, warm=20)) for d in DOMAINS)
    router = routing.SCHEDULE.steps * routing.ROWS * routing.LENGTH  # tokens
    together = Schedule(sum(STEPS.values()) + router // (ROWS * LENGTH), 2e-3, warm=20)
    return base, *experts, Recipe("monolith", "base", partial(_questions, DOMAINS), together)


def _questions(domains: Sequence[str], tokenizer: Tokenizer, rng: Random) -> Iterator[Text]:
    """Questions of these domains in turn; none that is too long for a row."""
    drawn = [examples(domain, "train", "seen", rng.getrandbits(62)) for domain in domains]
    while True:
        text = answered(tokenizer, next(rng.choice(drawn)), QUESTION)
        if len(text.tokens) <= LENGTH + 1:
            yield text


def _base(tokenizer: Tokenizer, rng: Random) -> Iterator[Text]:
    """Questions of all domains, and windows of library sources between them."""
    questions, sources = _questions(DOMAINS, tokenizer, rng), windows(_sources(tokenizer), LENGTH, rng)
    while True:
        yield next(sources if rng.random() < LIBRARY else questions)


@lru_cache(maxsize=1)
def _sources(tokenizer: Tokenizer) -> list[list[int]]:
    """Tokens of the library's modules, made once for a tokenizer."""
    return [tokenizer.encode(source) for _, source in library_texts("train")]


def trained_tokenizer(seed: int) -> Tokenizer:
    """A tokenizer for the texts of all: as many letters of sources as of questions of one domain, about."""
    texts = [source[:4000] for _, source in islice(library_texts("train"), 100)]
    for domain in DOMAINS:
        for example in examples(domain, "train", "seen", seed, 3000):
            texts += [example.prompt, example.answer]
    return tokenizers.train(texts, VOCAB)
