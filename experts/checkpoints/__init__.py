"""Checkpoints of `experts.llama` as others read and write them: config.json and safetensors, Hugging Face's names."""

from experts.checkpoints.config import read_config as read_config
from experts.checkpoints.digests import digest as digest
from experts.checkpoints.errors import CheckpointError as CheckpointError
from experts.checkpoints.loading import load as load
from experts.checkpoints.routers import load_router as load_router
from experts.checkpoints.routers import save_router as save_router
from experts.checkpoints.saving import save as save
from experts.checkpoints.weights import Weights as Weights
from experts.checkpoints.weights import open_weights as open_weights
