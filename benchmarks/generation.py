"""A whole generation of every trained expert through the emulator: do fused and unfused agree in every bit of logits?

Each expert reads one test question of its domain and writes 32 tokens, greedily, in BF16: prefill, then token by token,
fused and operator by operator. All logits behind all tokens are compared bit by bit, and the cache. Beside it the same
model in plain JAX (jax.jit), which sums in another order: how many tokens are the same, and by how much logits differ.

Where tokens part from plain JAX, `rdu.validate` is asked at that step, and lines below the table say what it found: how
far the program and its unfused form are from float64, beside how close the two likeliest tokens were.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from textwrap import fill

import jax
import jax.numpy as jnp
import numpy as np

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from experts.composition import TRAINED, Composition
from experts.data.splits import DOMAINS, examples
from experts.llama import Cache, Llama, empty_cache
from experts.tokenizer import END, Tokenizer, prompt_ids
from rdujax.cli.bits import differing, elements
from rdujax.cli.llama import Form, Step, Written, forms, write
from rdujax.cli.options import length

PROMPT = 20  # tokens of a question: one program reads those of all experts


@dataclass(frozen=True, kw_only=True)
class Generated(Row):
    """One expert. value: logits and words of the cache that differ between fused and unfused, of `compared`.

    equal: tokens before the first that differs from plain JAX. apart: the largest difference of logits up to there.
    parting: the lead of the likeliest token there; error, unfused_error: of its logits from float64, by `validate`.
    """

    compared: int
    tokens: int
    equal: int
    apart: float
    parting: float | None = None
    error: float | None = None
    unfused_error: float | None = None
    text: str = ""


COLUMNS = (
    names("expert", 10),
    Column("differ", "value", 7, "g", group="fused, unfused"),
    Column("of", "compared", 9, ",", group="fused, unfused"),
    Column("tokens", lambda row: f"{row.equal} of {row.tokens}", 8, group="as plain JAX"),
    Column("logits within", "apart", 13, ".4f", group="as plain JAX"),
    *goals(),
    Column("writes", lambda row: repr(row.text[:48]), 50, left=True),
)


@dataclass(frozen=True)
class Study:
    """An expert's question, and the programs that all experts share."""

    model: Llama
    question: jax.Array
    count: int
    forms: dict[str, Form]

    def written(self, form: Form, count: int) -> Written:
        """The first tokens that a form of the program writes."""
        return self._write(partial(form.prefill, self.model), partial(form.decode, self.model), count)

    def plain(self) -> Written:
        """What plain JAX writes."""
        jitted = partial(jax.jit(lambda model, *args: model(*args)), self.model)
        return self._write(jitted, jitted, self.count)

    def _write(self, prefill: Step, decode: Step, count: int) -> Written:
        return write(self.question, self._empty(), count, prefill, decode)

    def _empty(self) -> Cache:
        return empty_cache(self.model.config, 1, self.question.shape[1] + self.count)

    def validated(self, at: int) -> rdu.Validation:
        """The comparison at the step that chose token `at`."""
        form, place = self.forms["fused"], self.question.shape[1]
        if at == 0:
            return rdu.validate(form.prefill, self.model, self.question, self._empty(), jnp.int32(0))
        before = self.written(form, at)
        last = jnp.full((1, 1), before.tokens[-1], jnp.int32)
        return rdu.validate(form.decode, self.model, last, before.cache, jnp.int32(place + at - 1))


def question(tokenizer: Tokenizer, domain: str) -> list[int]:
    """The first test question of a domain that has so many tokens."""
    ids = (prompt_ids(tokenizer, example.prompt) for example in examples(domain, "test", "seen", 0))
    return next(each for each in ids if len(each) == PROMPT)


def rows(composition: Composition, experts: list[str], count: int) -> Iterator[Generated]:
    """All experts; programs are compiled once, for they have the same shapes."""
    progress("compile")
    compiled = forms(composition.model(experts[0]).config, PROMPT, PROMPT + count)
    for name in experts:
        progress(name)
        ids = jnp.asarray([question(composition.tokenizer, name)], jnp.int32)
        study = Study(composition.model(name), ids, count, compiled)
        yield compared(name, study, composition.tokenizer)


def compared(name: str, study: Study, tokenizer: Tokenizer) -> Generated:
    """One expert's row."""
    unfused, fused = (study.written(form, study.count) for form in study.forms.values())
    plain = study.plain()
    differ, words = differing(_compared(unfused), _compared(fused)), elements(_compared(fused))
    pairs = zip(fused.tokens, plain.tokens, strict=True)
    equal = next((i for i, (a, b) in enumerate(pairs) if a != b), study.count)
    upto = min(equal + 1, study.count)  # logits behind equal tokens
    gaps = (abs(a - b).max() for a, b in zip(_wide(fused)[:upto], _wide(plain)[:upto], strict=True))
    row = partial(
        Generated, row=name, value=differ, unit="words", goal=0, compared=words, tokens=study.count, equal=equal,
        apart=float(max(gaps)), text=tokenizer.decode(takewhile(lambda token: token != END, fused.tokens)),
    )  # fmt: skip
    if equal == study.count:
        return row()
    progress(f"{name}: validate token {equal}")
    found = study.validated(equal)
    second, first = np.sort(_wide(fused)[equal].ravel())[-2:]
    logits = found.outputs[0]
    return row(parting=float(first - second), error=logits.error, unfused_error=logits.baseline_error)


def _compared(written: Written) -> tuple[tuple[np.ndarray, ...], Cache]:
    """All logits and the last cache."""
    return written.logits, written.cache


def _wide(written: Written) -> list[np.ndarray]:
    return [np.asarray(each, np.float32) for each in written.logits]


def notes(found: list[Generated]) -> Iterator[str]:
    """Why tokens part from plain JAX, for each expert whose do."""
    for row in found:
        if row.parting is not None:
            yield fill(
                f"{row.row}: token {row.equal} is another in plain JAX. Here its lead was {row.parting:.4f}; logits up "
                f"to there differ by up to {row.apart:.4f}. By validate, fused and unfused are {row.error:.4f} and "
                f"{row.unfused_error:.4f} from float64 in this step: rounding to BF16 decides between such tokens.",
                width=110,
            )


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("generation", __doc__)
    asked.add_argument("--models", type=Path, default=TRAINED, help="folder of the models (default experts/trained)")
    asked.add_argument("--experts", nargs="+", choices=DOMAINS, default=list(DOMAINS), help="which ones (default all)")
    asked.add_argument("--tokens", type=length, default=32, help="tokens that are written (default 32)")
    options = asked.parse_args(arguments)
    found = rows(Composition(options.models), options.experts, options.tokens)
    return show("generation", options, COLUMNS, found, notes=notes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
