#!/usr/bin/env python3
"""Rebuild DeepSeek-Coder's tokenizer.json from the vocabulary that llama.cpp ships as a GGUF.

  rebuild_deepseek_tokenizer.py ggml-vocab-deepseek-coder.gguf tokenizer.json

The GGUF holds tokens, types and merges; the splitting rules are DeepSeek's published ones. The result is byte for
byte the file that the model's authors publish, which its digest shows; on any difference nothing is written.
"""
import hashlib
import json
import struct
import sys
from pathlib import Path

PUBLISHED_SHA256 = "409a9c6673865a1456ab18fc69fbfcfe96bc5152b4df0ee4e1d6e7fafda7cd33"
CONTROL = 3  # GGUF's token type
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Gguf:
    """The metadata of a GGUF file, read in order."""

    def __init__(self, path):
        self.data, self.at = Path(path).read_bytes(), 0
        magic, _version, _num_tensors, num_keys = self.take("4sIQQ")
        if magic != b"GGUF":
            sys.exit(f"{path} is not a GGUF file")
        self.metadata = {self.string(): self.value(*self.take("I")) for _ in range(num_keys)}

    def take(self, layout):
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def string(self):
        (length,) = self.take("Q")
        (text,) = self.take(f"{length}s")
        return text.decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item, length = self.take("IQ")
            return [self.value(item) for _ in range(length)]
        return self.take(SCALARS[kind])[0]


def added_token(token_id, content, kind):
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=True, special=kind == CONTROL)
    return dict(id=token_id, content=content, **flags)


def split(regex):
    return dict(type="Split", pattern=dict(Regex=regex), behavior="Isolated", invert=False)


def tokenizer(metadata):
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = metadata["tokenizer.ggml.merges"]
    learned = metadata["tokenizer.ggml.bos_token_id"] - 13  # thirteen characters are added before the first marker
    padding = tokens.index(next(t for i, t in enumerate(tokens) if t == f"[PAD{i}]"))
    return dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[added_token(i, tokens[i], kinds[i]) for i in range(learned, padding)],
        normalizer=dict(type="Sequence", normalizers=[]),
        pre_tokenizer=dict(type="Sequence", pretokenizers=[
            split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-\ud7ff]+"),
            dict(type="Digits", individual_digits=True),
            dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)]),
        post_processor=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=False, use_regex=True),
        decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True),
        model=dict(
            type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
            fuse_unk=False, byte_fallback=False, vocab={tokens[i]: i for i in range(learned)}, merges=merges))


def main():
    source, target = sys.argv[1:]
    text = json.dumps(tokenizer(Gguf(source).metadata), indent=4, ensure_ascii=False).encode()
    digest = hashlib.sha256(text).hexdigest()
    if digest != PUBLISHED_SHA256:
        sys.exit(f"the rebuilt tokenizer.json has sha256 {digest}, not {PUBLISHED_SHA256}; nothing is written")
    Path(target).write_bytes(text)


if __name__ == "__main__":
    main()
