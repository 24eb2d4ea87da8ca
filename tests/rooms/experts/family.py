"""A whole family of tiny random models in a folder, as training publishes them."""

import json
from dataclasses import asdict
from pathlib import Path

from flax import nnx

from experts.checkpoints import save, save_router
from experts.data.others import OTHER
from experts.data.splits import DOMAINS, examples
from experts.llama import Config, random_model
from experts.router import Router
from experts.tokenizer import Tokenizer, train
from experts.training.loop import Schedule

SIZES = Config(d_model=16, layers=1, heads=2, kv_heads=1, d_ff=24, vocab=300, positions=224, tied=True)


def tokenizer() -> Tokenizer:
    """One of few words."""
    return train([each.prompt for domain in DOMAINS for each in examples(domain, "train", "seen", 0, 20)], 300)


def published(folder: Path) -> Path:
    """The base model, all experts, the monolith and the router, each random, with its tokenizer and record."""
    words = tokenizer()
    for seed, name in enumerate(("base", *DOMAINS, "monolith", "router")):
        if name == "router":
            save_router(Router(SIZES, (*DOMAINS, OTHER), nnx.Rngs(seed)), folder / name)
        else:
            save(random_model(SIZES, seed), folder / name)
        words.save(folder / name)
        record = {"name": name, "begins": "base", "seed": 0, "schedule": asdict(Schedule(100, 1e-3))}
        (folder / name / "training.json").write_text(json.dumps(record))
    return folder
