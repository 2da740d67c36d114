// Made-up weights of 4 and 8 bits for the checks.
#pragma once
#include "emulator.h"

// A matrix of random blocks in planes, as src/kernels/planar.rs lays them out.
struct Planes {
  bool is_packed, has_min, has_halves;
  int outputs, blocks, zero;
  i64 scales, mins;
  u8* bytes;

  Planes(bool is_packed, bool has_min, int outputs, int blocks, int zero, bool has_halves = false)
      : is_packed(is_packed), has_min(has_min), has_halves(has_halves), outputs(outputs), blocks(blocks), zero(zero) {
    const i64 count = (i64)outputs * blocks, quant_bytes = count * (is_packed ? 16 : 32);
    const i64 num_scales = has_halves ? 2 * count : count;
    scales = (quant_bytes + 15) / 16 * 16;
    mins = (scales + 2 * num_scales + 15) / 16 * 16;
    bytes = memory<u8>(mins + 2 * count);
    for (i64 i = 0; i < quant_bytes; ++i) bytes[i] = (u8)randomness();
    for (i64 i = 0; i < num_scales; ++i) put_half(scales + 2 * i, fabsf(noise()) * 0.01f);
    for (i64 i = 0; i < count; ++i) put_half(mins + 2 * i, noise() * 0.1f);
  }

  void put_half(i64 at, float x) {
    const _Float16 half = (_Float16)x;
    memcpy(bytes + at, &half, sizeof half);
  }
  double half(i64 plane, i64 block) const {
    _Float16 x;
    memcpy(&x, bytes + plane + 2 * block, sizeof x);
    return (double)x;
  }
  // Of weight `i` of a block.
  double scale(i64 block, int i) const { return half(scales, has_halves ? 2 * block + i / 16 : block); }
  double min_of(i64 block) const { return has_min ? half(mins, block) : 0; }
  int weight(i64 block, int i) const {
    const int quant = !is_packed ? (signed char)bytes[block * 32 + i]
                      : i < 16   ? bytes[block * 16 + i] & 0x0f
                                 : bytes[block * 16 + i - 16] >> 4;
    return quant - zero;
  }
};
