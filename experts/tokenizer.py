"""Text to tokens and back: byte-level BPE, every digit a token of its own, in the files that others read.

    train(texts) or load(directory) -> Tokenizer;  encode(text) -> ids;  decode(ids) == text;  stream() piece by piece

Text never becomes a special token, whatever it spells: only who writes `BEGIN` or `END` between texts means one.
"""

import json
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from experts.checkpoints.errors import CheckpointError
from experts.checkpoints.files import read_object
from experts.checkpoints.replacing import write

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
UNKNOWN, BEGIN, END, PAD = range(4)
LEAST_VOCAB = len(SPECIAL) + 256  # every byte is a token, so that every text has tokens
FILE, CONFIG, MAP, MOST_BYTES = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", 2**26


class TokenizerError(ValueError):
    """A tokenizer that cannot be read, or ids or text that are not its own."""


class Tokenizer:
    """Ids of texts. Made by `train` or `load`."""

    def __init__(self, wrapped: tokenizers.Tokenizer):
        self._wrapped = wrapped
        self._wrapped.encode_special_tokens = True  # "</s>" in a text is four letters, not an end
        self._wrapped.no_padding()
        self._wrapped.no_truncation()

    @property
    def vocab(self) -> int:
        """Number of tokens; ids are below it."""
        return self._wrapped.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them special. Raises TokenizerError for half a surrogate pair, which is no text."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(f"only text that UTF-8 can write has tokens: {error}") from error
        return self._wrapped.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special ones left out: exactly what was encoded. Raises TokenizerError for other ids.

        Bytes that are no UTF-8, as of ids that break off inside a letter, become U+FFFD; see `stream` for text that
        grows.
        """
        return self._wrapped.decode([self._checked(each) for each in ids])

    def stream(self) -> "Stream":
        """A decoder of one text that arrives id by id."""
        return Stream(self)

    def save(self, directory: str | PathLike[str]) -> None:
        """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json, each whole or not at all.

        The same tokenizer gives the same bytes. The directory may hold a checkpoint.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        names = ("unk_token", "bos_token", "eos_token", "pad_token")
        there = {name: token for name, token in zip(names, SPECIAL, strict=True) if self._id(token) is not None}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **there}
        write(folder / FILE, self._wrapped.to_str(pretty=True).encode() + b"\n")
        write(folder / CONFIG, (json.dumps(settings, indent=2) + "\n").encode())
        write(folder / MAP, (json.dumps(there, indent=2) + "\n").encode())

    def _id(self, token: str) -> int | None:
        return self._wrapped.token_to_id(token)

    def _checked(self, number: int) -> int:
        if not 0 <= number < self.vocab:
            raise TokenizerError(f"ids are 0 to {self.vocab - 1}, given: {number}")
        return int(number)


class Stream:
    """Text of ids that arrive one by one: only whole letters are shown, and what was shown never changes.

    All that `push` gave and then `finish` are together `decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._decoder = decoders.DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._shown = 0

    def push(self, number: int) -> str:
        """The letters that this id completes, often none. Raises TokenizerError as `Tokenizer.decode`.

        Text that ends in U+FFFD waits: nobody knows yet whether it is the beginning of a letter.
        """
        self._ids.append(self._tokenizer._checked(number))
        text = self._decoder.step(self._tokenizer._wrapped, self._ids[-1]) or ""
        self._shown += len(text)
        return text

    def finish(self) -> str:
        """What was still waiting: whatever broke off becomes U+FFFD. Then the stream is at its beginning again."""
        rest = self._tokenizer.decode(self._ids)[self._shown :]
        self.__init__(self._tokenizer)
        return rest


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt as the models of this project are asked: <s>, the text, and a line break, behind which they answer."""
    return [BEGIN, *tokenizer.encode(prompt + "\n")]


def train(texts: Iterable[str], vocab: int = 1024) -> Tokenizer:
    """A tokenizer of at most `vocab` tokens for texts like these; fewer where the texts have no more pairs to join.

    The same texts give the same tokenizer. Ids 0 to 3 are <unk>, <s>, </s> and <pad>. Raises TokenizerError where vocab
    is too small for these and all bytes.
    """
    if vocab < LEAST_VOCAB:
        raise TokenizerError(f"vocab is at least {LEAST_VOCAB}, special tokens and all bytes, given: {vocab}")
    wrapped = tokenizers.Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    wrapped.pre_tokenizer = pre_tokenizers.Sequence(steps)
    wrapped.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    wrapped.train_from_iterator(texts, trainer)
    return Tokenizer(wrapped)


def load(directory: str | PathLike[str]) -> Tokenizer:
    """The tokenizer of a directory: its tokenizer.json. Raises TokenizerError where that is missing or malformed.

    <unk>, <s> and </s> must be 0, 1 and 2, as in every Llama2; <pad>, where there is one, 3.
    """
    path = Path(directory, FILE)
    try:
        wrapped = tokenizers.Tokenizer.from_str(json.dumps(read_object(path, MOST_BYTES)))
    except CheckpointError as error:
        raise TokenizerError(f"no tokenizer can be read: {error}") from error
    except Exception as error:  # the library raises nothing more special
        raise TokenizerError(f"not a tokenizer's file: {error}\n  where:   {path}") from error
    tokenizer = Tokenizer(wrapped)
    ids = {token: tokenizer._id(token) for token in SPECIAL}
    expected = {token: number for number, token in enumerate(SPECIAL) if number != PAD or ids[token] is not None}
    if wrong := {token: ids[token] for token in expected if ids[token] != expected[token]}:
        raise TokenizerError(f"ids of special tokens are not {expected}, given: {wrong}\n  where:   {path}")
    return tokenizer
