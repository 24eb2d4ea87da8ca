"""A Composition of Experts: a prompt goes to a router, and from there to the expert that answers it.

    composition = Composition(TRAINED);  composition.answer("What is 17 times 23?").text

Checkpoints are read when they are first needed, and kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from experts import tokenizer as tokenizers
from experts.checkpoints import load, load_router
from experts.data.others import OTHER
from experts.data.splits import result
from experts.generate import generate
from experts.llama import Llama
from experts.router import Route, Router, route
from experts.tokenizer import END, Tokenizer, prompt_ids

TRAINED = Path(__file__).parent / "trained"
MOST = 140  # tokens of an answer


@dataclass(frozen=True)
class Answer:
    """What an expert says, and why it was asked; "" where no expert is for the prompt, which is label "other".

    ids: the tokens of the text.
    """

    text: str
    route: Route
    ids: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """How many were written."""
        return len(self.ids)

    @property
    def result(self) -> str:
        """The text without the steps that lead to it."""
        return result(self.route.label, self.text) if self.text else ""


class Composition:
    """The models of a folder, by name: "router", "base", "monolith", and an expert for each label of the router.

    Raises CheckpointError where a model is not there or broken, when it is first needed.
    """

    def __init__(self, folder: Path = TRAINED):
        self.folder = folder
        self._models: dict[str, Llama] = {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The one of all models."""
        return tokenizers.load(self.folder / "base")

    @cached_property
    def router(self) -> Router:
        """Which label a prompt has."""
        return load_router(self.folder / "router")

    @property
    def experts(self) -> tuple[str, ...]:
        """The labels of the router for which there is an expert."""
        return tuple(label for label in self.router.labels if label != OTHER)

    def model(self, name: str) -> Llama:
        """A model, read at its first use."""
        if name not in self._models:
            self._models[name] = load(self.folder / name)
        return self._models[name]

    def routes(self, prompts: Sequence[str]) -> list[Route]:
        """Where prompts go; of one that is longer than the router's context, the end counts."""
        most = self.router.body.config.positions
        return route(self.router, [prompt_ids(self.tokenizer, prompt)[-most:] for prompt in prompts])

    def answer(self, prompt: str, told: Callable[[Route], None] | None = None,
               streamed: Callable[[str], None] | None = None, most: int = MOST) -> Answer:  # fmt: skip
        """The greedy answer of up to `most` tokens. told: where it goes, before it is answered; streamed: its pieces.

        Raises ValueError where the prompt leaves no room for an answer in the expert's context.
        """
        [way] = self.routes([prompt])
        if told:
            told(way)
        return Answer("", way) if way.label == OTHER else self.answer_of(way, prompt, streamed, most)

    def answer_of(
        self, way: Route, prompt: str, streamed: Callable[[str], None] | None = None, most: int = MOST
    ) -> Answer:
        """The same, of the expert to which a way leads."""
        model, ids = self.model(way.label), prompt_ids(self.tokenizer, prompt)
        pieces, room = self.tokenizer.stream(), model.config.positions - len(ids)
        each = None if streamed is None else lambda new: streamed("".join(map(pieces.push, new[0])))
        [tokens] = generate(model, [ids], most=max(1, min(most, room)), stop={END}, streamed=each)
        if streamed:
            streamed(pieces.finish())
        return Answer(self.tokenizer.decode(tokens), way, tuple(tokens))
