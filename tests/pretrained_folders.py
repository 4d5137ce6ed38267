"""Folders as the published encoders have them (file names, keys, configs), with random weights and few narrow
layers."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from transformers import SiglipConfig, SiglipModel, T5Config, T5ForConditionalGeneration

TEXT_WIDTH, IMAGE_WIDTH = 24, 20
SENTENCES = (
    "push the block",
    "pull the drawer open",
    "put the red cube in the box",
    "pick up the cup and place it on the plate",
)


def make_t5_folder(folder: Path, width: int = TEXT_WIDTH) -> Path:
    """As google/t5-v1_1-xxl: the whole model's `pytorch_model.bin`, a sentencepiece vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # type: ignore[attr-defined]
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=vocabulary,
        vocab_size=60,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(vocabulary.getvalue())
    tokenizer = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 100,
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    config = T5Config(
        vocab_size=200,
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,  # type: ignore[call-arg]
        architectures=["T5ForConditionalGeneration"],
    )
    torch.manual_seed(0)
    config.save_pretrained(folder)
    torch.save(T5ForConditionalGeneration(config).state_dict(), folder / "pytorch_model.bin")
    return folder


def make_siglip_folder(folder: Path, image_px: int = 28, patch_px: int = 14) -> Path:
    """As google/siglip-so400m-patch14-384: both halves of the pair in `model.safetensors`."""
    half = {"hidden_size": IMAGE_WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**half, "vocab_size": 50},
        vision_config={**half, "image_size": image_px, "patch_size": patch_px},
    )
    torch.manual_seed(1)
    SiglipModel(config).save_pretrained(folder)
    return folder
