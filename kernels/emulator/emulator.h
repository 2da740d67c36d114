// Runs the kernels on a CPU, thread by thread, so that their logic is checked where there is no GPU.
//
// A source includes this and then a .cu file. Every thread of a block is a fiber; fibers run one after another until
// they reach a barrier or an instruction of the whole warp, and go on when all others are there. What a GPU does not
// forgive ends the run: a warp that parts before an instruction it needs whole, a barrier that some threads never reach,
// a 16-byte access that is not aligned. New memory holds NaN.
//
// What it cannot show: races (a warp never runs beside another), the timing of asynchronous copies (they are done at
// once), the last bits of the device's own functions, and speed.
#pragma once
#define ANANKE_PRIMITIVES_CUH  // this file takes the place of primitives.cuh

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define DYNAMIC_SHARED(NAME) uint4* NAME = dynamic_shared

using std::isnan;
using std::max;
using std::min;

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct bf16 {
  u16 bits;
};
struct alignas(16) uint4 {
  u32 x, y, z, w;
};
struct Index {
  u32 x, y, z;
};

constexpr int WARP = 32;

[[noreturn]] inline void fail(const char* what) {
  printf("FAILED %s\n", what);
  exit(1);
}

// --- threads ---

inline Index threadIdx, blockIdx, blockDim;
inline uint4* dynamic_shared = (uint4*)aligned_alloc(64, 256 << 10);

namespace machine {

constexpr size_t STACK_BYTES = 256 << 10;
enum class State { READY, AT_BARRIER, IN_WARP, DONE };

// What a lane brings to an instruction of the warp.
struct Gift {
  u64 value;
  u32 a[4], b[2];
  const void* address;
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  State state;
  int instruction;
  u32 meetings;
};

inline std::vector<Fiber> fibers;
inline std::vector<Gift> gifts[2];  // of even and odd meetings: a lane is never two ahead of another
inline ucontext_t scheduler;
inline std::function<void()> kernel;
inline int current;

inline void pause(State state, int instruction) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
  fiber.instruction = instruction;
  swapcontext(&fiber.context, &scheduler);
}

inline void enter() {
  kernel();
  pause(State::DONE, 0);
}

// Lets every warp go on whose lanes are all at the same instruction.
inline bool release_warps(int threads) {
  bool released = false;
  for (int first = 0; first < threads; first += WARP) {
    const Fiber* lanes = &fibers[first];
    if (!std::all_of(lanes, lanes + WARP, [](const Fiber& lane) { return lane.state == State::IN_WARP; })) continue;
    for (int lane = 1; lane < WARP; ++lane) {
      if (lanes[lane].instruction != lanes[0].instruction) fail("a warp has parted");
    }
    for (int lane = 0; lane < WARP; ++lane) fibers[first + lane].state = State::READY;
    released = true;
  }
  return released;
}

inline void run_block(int threads) {
  fibers.resize(threads);
  gifts[0].resize(threads);
  gifts[1].resize(threads);
  for (Fiber& fiber : fibers) {
    fiber.stack.resize(STACK_BYTES);
    fiber.state = State::READY;
    fiber.meetings = 0;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, enter, 0);
  }
  for (;;) {
    int done = 0, at_barrier = 0;
    for (int i = 0; i < threads; ++i) {
      if (fibers[i].state == State::READY) {
        current = i;
        threadIdx = {(u32)i, 0, 0};
        swapcontext(&scheduler, &fibers[i].context);
      }
      done += fibers[i].state == State::DONE;
      at_barrier += fibers[i].state == State::AT_BARRIER;
    }
    if (done == threads) return;
    if (release_warps(threads)) continue;
    if (at_barrier != threads) fail("some threads wait for others that never come");
    for (Fiber& fiber : fibers) fiber.state = State::READY;
  }
}

inline Gift& gift() { return gifts[fibers[current].meetings % 2][current]; }

// Waits for the rest of the warp; returns what its lanes have brought.
inline const Gift* meet(int instruction) {
  const int turn = fibers[current].meetings++ % 2, first = current / WARP * WARP;
  pause(State::IN_WARP, instruction);
  return &gifts[turn][first];
}

template <typename V>
V value_of(V value, int lane, int instruction) {
  static_assert(sizeof(V) <= sizeof(u64), "fits a register pair");
  memcpy(&gift().value, &value, sizeof(V));
  memcpy(&value, &meet(instruction)[lane].value, sizeof(V));
  return value;
}

inline int lane() { return current % WARP; }

inline void check_alignment(const void* address) {
  if ((uintptr_t)address % 16 != 0) fail("16 bytes that are not aligned");
}

}  // namespace machine

// Runs a kernel on every block of a grid.
inline void launch(Index grid, int threads, std::function<void()> kernel) {
  machine::kernel = std::move(kernel);
  blockDim = {(u32)threads, 1, 1};
  for (u32 z = 0; z < grid.z; ++z) {
    for (u32 y = 0; y < grid.y; ++y) {
      for (u32 x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        machine::run_block(threads);
      }
    }
  }
}

// --- instructions ---

inline void __syncthreads() { machine::pause(machine::State::AT_BARRIER, 0); }

template <typename V>
V shuffle_xor(V value, int mask) {
  return machine::value_of(value, machine::lane() ^ mask, 100 + mask);
}

template <typename V>
V shuffle_up(V value, int delta) {
  return machine::value_of(value, machine::lane() >= delta ? machine::lane() - delta : machine::lane(), 200 + delta);
}

template <typename V>
V shuffle(V value, int lane) {
  return machine::value_of(value, lane, 300);
}

inline u32 lanes_where(bool holds) {
  machine::gift().value = holds;
  const machine::Gift* gifts = machine::meet(400);
  u32 lanes = 0;
  for (int i = 0; i < WARP; ++i) lanes |= (u32)(gifts[i].value != 0) << i;
  return lanes;
}

inline u32 lanes_alike(u32 value) {
  machine::gift().value = value;
  const machine::Gift* gifts = machine::meet(410);
  u32 lanes = 0;
  for (int i = 0; i < WARP; ++i) lanes |= (u32)(gifts[i].value == value) << i;
  return lanes;
}

inline int lowest_lane(u32 lanes) { return __builtin_ctz(lanes); }
inline void warp_barrier() { machine::meet(420); }

inline u32 __float_as_uint(float x) {
  u32 bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float __uint_as_float(u32 bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

#define MINUS_INFINITY __uint_as_float(0xff800000u)

inline float lower_bf16(u32 pair) { return __uint_as_float(pair << 16); }
inline float upper_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

inline u32 round_to_bf16(float x) {
  const u32 bits = __float_as_uint(x);
  return isnan(x) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline u32 pack_bf16(float lower, float upper) { return round_to_bf16(lower) | round_to_bf16(upper) << 16; }

inline float half_to_float(u16 bits) {
  _Float16 x;
  memcpy(&x, &bits, sizeof x);
  return (float)x;
}

inline int dot4(u32 a, u32 b, int acc) {
  for (int i = 0; i < 4; ++i) acc += (int)(signed char)(a >> 8 * i) * (int)(signed char)(b >> 8 * i);
  return acc;
}

inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

inline uint4 load_once(const void* from) {
  machine::check_alignment(from);
  return *(const uint4*)from;
}

inline uint4 load_shared_use(const void* from) { return load_once(from); }

inline void copy_async(void* to, const void* from) {
  machine::check_alignment(to);
  *(uint4*)to = load_once(from);
}

inline void copy_async_commit() {}
template <int N>
void copy_async_wait() {}

inline void load_matrices_of(u32 (&r)[4], const void* row, bool is_transposed) {
  machine::check_alignment(row);
  machine::gift().address = row;
  const machine::Gift* gifts = machine::meet(500 + is_transposed);
  const int i = machine::lane() / 4, j = 2 * (machine::lane() % 4);
  for (int m = 0; m < 4; ++m) {
    auto at = [&](int row, int col) { return (u32)((const u16*)gifts[8 * m + row].address)[col]; };
    r[m] = is_transposed ? at(j, i) | at(j + 1, i) << 16 : at(i, j) | at(i, j + 1) << 16;
  }
}

inline void load_matrices(u32 (&r)[4], const void* row) { load_matrices_of(r, row, false); }
inline void load_matrices_transposed(u32 (&r)[4], const void* row) { load_matrices_of(r, row, true); }

inline void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  machine::Gift& own = machine::gift();
  memcpy(own.a, a, sizeof own.a);
  own.b[0] = b0;
  own.b[1] = b1;
  const machine::Gift* gifts = machine::meet(600);
  auto half = [](u32 pair, int k) { return k % 2 ? upper_bf16(pair) : lower_bf16(pair); };
  for (int i = 0; i < 4; ++i) {
    const int row = machine::lane() / 4 + (i >= 2 ? 8 : 0), col = 2 * (machine::lane() % 4) + i % 2;
    double sum = 0;
    for (int k = 0; k < 16; ++k) {
      const int t = k % 8 / 2;
      const float x = half(gifts[row % 8 * 4 + t].a[(row >= 8) + 2 * (k >= 8)], k);
      sum += (double)x * half(gifts[col * 4 + t].b[k >= 8], k);
    }
    c[i] += (float)sum;
  }
}

inline float fast_exp2(float x) { return exp2f(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ull2double_rn(u64 a) { return (double)a; }
inline u64 __umul64hi(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
inline int __popc(u32 x) { return __builtin_popcount(x); }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }

template <typename V>
void atomicAdd(V* to, V value) {
  *to += value;
}

// --- checks ---

inline std::mt19937 randomness(7);

// A number between -1 and 1.
inline float noise() { return (float)((double)randomness() / 2147483648.0 - 1.0); }

// Memory that is never given back; every float of it is NaN until it is written.
template <typename T>
T* memory(i64 len) {
  const size_t bytes = (len * sizeof(T) + 127) / 64 * 64;
  void* start = aligned_alloc(64, bytes);
  memset(start, 0xff, bytes);
  return (T*)start;
}

inline float get(const float* xs, i64 i) { return xs[i]; }
inline float get(const bf16* xs, i64 i) { return lower_bf16(xs[i].bits); }
inline void put(float* xs, i64 i, float x) { xs[i] = x; }
inline void put(bf16* xs, i64 i, float x) { xs[i].bits = (u16)round_to_bf16(x); }

template <typename T>
T* noisy(i64 len, float scale = 1.0f) {
  T* xs = memory<T>(len);
  for (i64 i = 0; i < len; ++i) put(xs, i, scale * noise());
  return xs;
}

// The largest difference against the largest expected value.
struct Difference {
  double worst = 0, largest = 0;
  void add(double found, double expected) {
    const double difference = fabs(found - expected);
    worst = isnan(difference) ? INFINITY : max(worst, difference);
    largest = max(largest, fabs(expected));
  }
  void check(double tolerance, const char* what) const {
    printf("%-44s off by %.1e of %.1e\n", what, worst, largest);
    if (!(worst <= tolerance * largest)) fail(what);
  }
};

// Holds the first `len` elements to others, to the bit.
template <typename T>
void check_same(const T* found, const T* expected, i64 len, const char* what) {
  i64 num_others = 0;
  for (i64 i = 0; i < len; ++i) num_others += memcmp(found + i, expected + i, sizeof(T)) != 0;
  printf("%-44s %lld of %lld differ\n", what, (long long)num_others, (long long)len);
  if (num_others != 0) fail(what);
}

// Threads of a block, and blocks along a row, as `Grid::rows` of src/kernels/cuda/launch.rs.
inline void launch_rows(int rows, int width, int per_thread, std::function<void()> kernel) {
  const int needed = (width + per_thread - 1) / per_thread;
  launch({(u32)rows, (u32)(needed + 255) / 256, 1}, min(256, max(32, (needed + 31) / 32 * 32)), std::move(kernel));
}
