// The few instructions that the kernels are written in, and nothing of the kernels themselves.
//
// Everything that C++ has no word for is here: conversions, shuffles within a warp, asynchronous copies to shared
// memory, and the matrix instructions of sm_80 and later.
#ifndef ANANKE_PRIMITIVES_CUH
#define ANANKE_PRIMITIVES_CUH

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// The upper half of a float.
struct bf16 {
  u16 bits;
};

constexpr int WARP = 32;
constexpr u32 WHOLE_WARP = 0xffffffffu;

__device__ __forceinline__ float lower_bf16(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float upper_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

// Two floats, rounded to the nearest bf16, ties to even; `lower` lies at the lower address.
__device__ __forceinline__ u32 pack_bf16(float lower, float upper) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(upper), "f"(lower));
  return pair;
}

__device__ __forceinline__ float half_to_float(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// acc + the sum of four products of signed bytes.
__device__ __forceinline__ int dot4(u32 a, u32 b, int acc) { return __dp4a((int)a, (int)b, acc); }

// 16 bytes that are read once: through the read-only path, past the first cache level.
__device__ __forceinline__ uint4 load_once(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

// 16 bytes that other warps read too.
__device__ __forceinline__ uint4 load_shared_use(const void* from) { return __ldg((const uint4*)from); }

template <typename V>
__device__ __forceinline__ V shuffle_xor(V value, int lane_mask) {
  return __shfl_xor_sync(WHOLE_WARP, value, lane_mask);
}

template <typename V>
__device__ __forceinline__ V shuffle_up(V value, int delta) {
  return __shfl_up_sync(WHOLE_WARP, value, delta);
}

template <typename V>
__device__ __forceinline__ V shuffle(V value, int lane) {
  return __shfl_sync(WHOLE_WARP, value, lane);
}

// One bit per lane of the warp.
__device__ __forceinline__ u32 lanes_where(bool holds) { return __ballot_sync(WHOLE_WARP, holds); }

// One bit per lane of the warp that has the same value.
__device__ __forceinline__ u32 lanes_alike(u32 value) { return __match_any_sync(WHOLE_WARP, value); }

__device__ __forceinline__ int lowest_lane(u32 lanes) { return __ffs((int)lanes) - 1; }

// What any lane has written to shared memory, all lanes see.
__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

// 16 bytes from global to shared memory, without passing through registers.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
  u32 address = (u32)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from));
}

__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;"); }

// Waits until at most `N` of the groups committed last are still under way.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8, and gets elements
// (l / 4, 2 * (l % 4)) and its right neighbour of each.
__device__ __forceinline__ void load_matrices(u32 (&r)[4], const void* row) {
  u32 address = (u32)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// As load_matrices, of the transposed matrices: elements (2 * (l % 4), l / 4) and its lower neighbour.
__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], const void* row) {
  u32 address = (u32)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// c (16 x 8, f32) += a (16 x 16, bf16, by rows) * b (16 x 8, bf16, by columns), over one warp.
//
// With g = lane / 4 and t = lane % 4: c[0..2] is row g, columns 2t and 2t + 1, c[2..4] row g + 8. a[0] and a[1] are
// rows g and g + 8 at k = 2t, 2t + 1, a[2] and a[3] the same rows at k + 8. b[0] is column g at k = 2t, 2t + 1, b[1]
// at k + 8.
__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2 to the power of x, within 2 ulp; 0 of minus infinity.
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#define MINUS_INFINITY __uint_as_float(0xff800000u)

// Shared memory whose size the launch gives.
#define DYNAMIC_SHARED(NAME) extern __shared__ uint4 NAME[]

#endif
