#!/usr/bin/env python3
"""Writes a Q8_0 copy of a GGUF model: the same model in the block format that every CPU engine is fast at.

  make_q8_0.py SOURCE.gguf TARGET.gguf

Matrices are dequantized and quantized again; norms and other vectors stay f32, and all metadata stays but the file type.
What an earlier quantization lost stays lost: this is for comparing engines, not for quality.
Needs: pip install gguf
"""

import os
import pathlib
import sys

import gguf
from gguf import GGMLQuantizationType, GGUFValueType, Keys, LlamaFileType

Q8_0 = GGMLQuantizationType.Q8_0


def value_types(field):
    """The type of a metadata value, and of its elements where it is an array."""
    is_array = field.types[0] == GGUFValueType.ARRAY
    return field.types[0], field.types[-1] if is_array else None


def copy_metadata(reader, writer):
    """Everything but what the writer says itself: the header's counts, the architecture and the file type."""
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE):
            continue
        kind, element = value_types(field)
        writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)


def add_tensor(tensor, writer):
    """Matrices as Q8_0; vectors, and what is Q8_0 already, byte for byte."""
    if len(tensor.shape) < 2 or tensor.tensor_type == Q8_0:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        return
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, gguf.quants.quantize(values, Q8_0), raw_dtype=Q8_0)


def convert(source, target):
    reader = gguf.GGUFReader(source)
    architecture = reader.get_field(Keys.General.ARCHITECTURE)
    if architecture is None:
        sys.exit(f"{source}: the metadata names no architecture")
    writer = gguf.GGUFWriter(target, arch=architecture.contents(), endianess=reader.endianess)
    writer.data_alignment = reader.alignment
    copy_metadata(reader, writer)
    for tensor in reader.tensors:
        add_tensor(tensor, writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: make_q8_0.py SOURCE.gguf TARGET.gguf")
    source, target = map(pathlib.Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its final name and then renamed, so that a broken file never looks like a model.
    part = target.with_name(target.name + ".part")
    convert(source, part)
    os.replace(part, target)


if __name__ == "__main__":
    main()
