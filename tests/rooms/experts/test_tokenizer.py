"""Any text comes back exactly, whole or token by token; the same texts give the same files; others are refused."""

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from experts import tokenizer
from experts.tokenizer import BEGIN, END, PAD, UNKNOWN, Tokenizer, TokenizerError, train

TEXTS = [
    "SELECT name FROM users WHERE age > 42;",
    "def double(x):\n    return x * 2  # twice\n",
    "the cat sat on the mat and the dog sat on the log 123 456",
    "Grüße, naïve café, 数学は楽しい, привет мир, 👩‍👩‍👧 🙂🙃",
] * 8
TRAINED = train(TEXTS, 500)  # 391 tokens: the texts have no more pairs
FILES = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
# Letters of one to four bytes, digits of several scripts, what looks like special tokens, whatever else there is.
LETTERS = (
    st.text() | st.text("abé数🙂\ufffd 0123٣५ \n\t\r\x00") | st.sampled_from([*SPECIAL, "👩‍👩‍👧", "e\u0301", "\ufeff"])
)
ANY = st.lists(LETTERS, max_size=6).map("".join)


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_every_text_comes_back(text: str):
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert all(len(SPECIAL) <= each < TRAINED.vocab for each in ids)


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_a_stream_shows_whole_letters_and_all_of_them(text: str):
    stream, shown = TRAINED.stream(), ""
    for each in TRAINED.encode(text):
        shown += stream.push(each)
        assert text.startswith(shown)
    assert shown + stream.finish() == text


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, TRAINED.vocab - 1) | st.integers(4, 259), max_size=20))
def test_a_stream_of_any_ids_is_their_text(ids: list[int]):
    """Also of ids that no text has: halves of letters, special tokens."""
    stream = TRAINED.stream()
    shown = [stream.push(each) for each in ids]
    assert "".join(shown) + stream.finish() == TRAINED.decode(ids)


def test_half_a_letter_waits():
    ids = TRAINED.encode("\U00010348")
    assert len(ids) == 4
    stream = TRAINED.stream()
    assert [stream.push(each) for each in ids] == ["", "", "", "\U00010348"]
    assert stream.finish() == ""
    assert [stream.push(each) for each in ids[:2]] == ["", ""]
    assert stream.finish() == "\ufffd" == TRAINED.decode(ids[:2])
    assert "".join(stream.push(each) for each in TRAINED.encode("again")) + stream.finish() == "again"


def test_every_digit_is_a_token_of_its_own():
    for text in ("2024", "a1b22c333", "3.14159", "0x1F", " 7 8", "1" * 50):
        pieces = [TRAINED.decode([each]) for each in TRAINED.encode(text)]
        assert [piece for piece in pieces if any(letter.isdigit() for letter in piece)] == [
            letter for letter in text if letter.isdigit()
        ]


def test_frequent_words_are_few_tokens():
    assert len(TRAINED.encode("the cat sat on the mat")) <= 8


def test_special_tokens_have_their_ids_and_are_no_text():
    assert (UNKNOWN, BEGIN, END, PAD) == (0, 1, 2, 3)
    assert [TRAINED._id(token) for token in SPECIAL] == [0, 1, 2, 3]
    assert TRAINED.decode([BEGIN, *TRAINED.encode("hi"), END, PAD, UNKNOWN]) == "hi"
    assert all(number > PAD for number in TRAINED.encode("<s>hi</s>"))


def test_a_text_that_spells_special_tokens_in_training_does_not_make_them():
    made = train(["<s> </s> <unk> <pad> <s>hello</s>"] * 50, 400)
    assert made.decode(made.encode("<s>hello</s>")) == "<s>hello</s>"
    assert min(made.encode("<s></s><unk><pad>")) > PAD


def test_the_size_is_what_was_asked_or_what_the_texts_have():
    assert train(TEXTS, 300).vocab == 300
    assert train(["ab"], 10_000).vocab == 4 + 256 + 1
    assert train([], 1024).vocab == tokenizer.LEAST_VOCAB == 260
    assert train([], 260).decode(train([], 260).encode("é\0")) == "é\0"
    with pytest.raises(TokenizerError, match="at least 260"):
        train(TEXTS, 259)


def bytes_of(folder: Path, made: Tokenizer) -> dict[str, bytes]:
    """The files that it writes."""
    made.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_texts_give_the_same_files(tmp_path: Path):
    one = bytes_of(tmp_path / "one", train(TEXTS, 500))
    assert list(one) == FILES
    assert bytes_of(tmp_path / "other", train(iter(TEXTS), 500)) == one
    assert bytes_of(tmp_path / "third", train(reversed(TEXTS), 500)) == one
    assert bytes_of(tmp_path / "fourth", train(TEXTS, 380)) != one


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path: Path):
    files = bytes_of(tmp_path, TRAINED)
    loaded = tokenizer.load(tmp_path)
    assert loaded.vocab == TRAINED.vocab
    for text in [*TEXTS[:4], "</s> 12"]:
        assert loaded.encode(text) == TRAINED.encode(text)
        assert loaded.decode(loaded.encode(text)) == text
    assert bytes_of(tmp_path, loaded) == files


def test_the_files_say_to_others_which_tokens_are_special(tmp_path: Path):
    TRAINED.save(tmp_path)
    expected = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    assert json.loads((tmp_path / "special_tokens_map.json").read_text()) == expected
    assert expected.items() <= json.loads((tmp_path / "tokenizer_config.json").read_text()).items()
    bare = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert bare.encode(TEXTS[0]).ids == TRAINED.encode(TEXTS[0])


def test_a_tokenizer_of_another_make_is_read(tmp_path: Path):
    """As Llama2's own: bytes where no piece fits, a mark for spaces, a beginning that it would add by itself."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{each:02X}>": 3 + each for each in range(256)}}
    vocab |= {"▁": 259, "h": 260, "i": 261, "hi": 262, "▁hi": 263}
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=vocab, merges=[("h", "i"), ("▁", "hi")], unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    made.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    made.save(str(tmp_path / "tokenizer.json"))
    loaded = tokenizer.load(tmp_path)
    assert loaded.encode("hi hi") == [263, 263]
    for text in ("hi hi", "hi é🙂 hi", " hi"):
        ids, stream = loaded.encode(text), loaded.stream()
        assert loaded.decode(ids) == text
        assert "".join(stream.push(each) for each in ids) + stream.finish() == text


@pytest.mark.parametrize("number", [-1, TRAINED.vocab, 10**9, 2**40])
def test_ids_of_no_token_are_refused(number: int):
    with pytest.raises(TokenizerError, match="ids are 0 to 390"):
        TRAINED.decode([5, number])
    with pytest.raises(TokenizerError, match="ids are 0 to 390"):
        TRAINED.stream().push(number)


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(TokenizerError, match="UTF-8"):
        TRAINED.encode("a\ud800b")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"model": {}}', b'{"version": "1.0", "model": {"type": "None"}}']
)
def test_malformed_files_are_refused(content: bytes, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        tokenizer.load(tmp_path)


def damaged(folder: Path, change) -> None:
    """A saved tokenizer whose file was changed."""
    TRAINED.save(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"]["merges"].append(["nothing", "like it"]),
        lambda content: content["model"].update(type="Banana"),
        lambda content: content["model"]["vocab"].update(a="b"),
        lambda content: content["model"].pop("vocab"),
        lambda content: content.update(decoder={"type": "Banana"}),
        lambda content: content.pop("model"),
    ],
)
def test_damaged_files_are_refused(change, tmp_path: Path):
    damaged(tmp_path, change)
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        tokenizer.load(tmp_path)


def test_other_ids_of_special_tokens_are_refused(tmp_path: Path):
    def swapped(content: dict) -> None:
        vocab = content["model"]["vocab"]
        vocab["<s>"], vocab["</s>"] = 2, 1
        content["added_tokens"][1]["id"], content["added_tokens"][2]["id"] = 2, 1

    damaged(tmp_path, swapped)
    with pytest.raises(TokenizerError, match="ids of special tokens"):
        tokenizer.load(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").symlink_to("../elsewhere")
    with pytest.raises(TokenizerError, match="tokenizer.json"):
        tokenizer.load(tmp_path)
