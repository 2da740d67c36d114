//! A vector of f32 lanes, so that each loop is written once and compiled for every instruction set.
//!
//! A kernel implements [`WithLanes`]; [`dispatch`] runs it with the widest lanes this machine has. Everything between
//! the two must be `#[inline(always)]`, and no closure may compute with lanes: a function of its own is compiled
//! without the instructions, and then every operation is a call.
#![allow(unsafe_code)]

/// `WIDTH` f32 values that are computed with together.
///
/// # Safety
/// Implementations may use instructions that the machine must have: values exist only inside [`dispatch`], which has
/// checked. `load` and `store` touch `WIDTH` elements at the pointer, `load_partial` the first `len`.
pub(crate) unsafe trait Lanes: Copy {
    const WIDTH: usize;
    /// Rows of a register tile whose columns are four: as many as the register file holds.
    const TILE_ROWS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_partial(from: *const f32, len: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * a + b`.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// To the nearest whole number.
    unsafe fn round(self) -> Self;
    /// Two to the power of whole numbers in `-127..=127`; the lowest gives 0.
    unsafe fn exp2_whole(self) -> Self;
    /// The sum of the lanes, always in the same order.
    unsafe fn sum(self) -> f32;

    /// `e` to the power of `self`, within 2 ulp; 0 below -87.3, and inputs are capped at 88.
    ///
    /// Splits off the power of two, then evaluates the polynomial of Cephes' `expf`.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // SAFETY: same instructions as the caller's.
        unsafe {
            let xs = self.max(Self::splat(-88.0)).min(Self::splat(88.0));
            let n = xs.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            let r = n.mul_add(Self::splat(-0.693_359_4), xs);
            let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = p.mul_add(r, Self::splat(coefficient));
            }
            let p = p.mul_add(r.mul(r), r).add(Self::splat(1.0));
            p.mul(n.exp2_whole())
        }
    }
}

/// A computation that is generic over the lanes it runs with.
pub(crate) trait WithLanes {
    type Output;

    /// # Safety
    /// Called by [`dispatch`] alone, on a machine that has the instructions of `L`.
    unsafe fn run<L: Lanes>(self) -> Self::Output;
}

/// Runs `kernel` with the widest lanes of this machine.
#[inline]
pub(crate) fn dispatch<K: WithLanes>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the instructions were just found.
            return unsafe { x86::with_avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the instructions were just found.
            return unsafe { x86::with_avx2(kernel) };
        }
    }
    // SAFETY: portable lanes need no special instructions.
    unsafe { kernel.run::<Portable>() }
}

/// Eight lanes that every machine has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

// SAFETY: no special instructions; loads and stores touch what the trait says.
unsafe impl Lanes for Portable {
    const WIDTH: usize = 8;
    const TILE_ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives eight readable elements.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, len: usize) -> Self {
        let mut lanes = [0.0; 8];
        // SAFETY: the caller gives `len` readable elements; `len` is less than eight.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len.min(8)) };
        Self(lanes)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller gives eight writable elements.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Two roundings: a fused one without the instruction is a call into libm per lane.
        self.zip(a, |x, y| x * y).zip(b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding 1.5 * 2^23 leaves no bits for a fraction.
        Self(self.0.map(|x| (x + 12_582_912.0) - 12_582_912.0))
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        Self(self.0.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Lanes, WithLanes};

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn with_avx512<K: WithLanes>(kernel: K) -> K::Output {
        // SAFETY: this function's own instructions.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn with_avx2<K: WithLanes>(kernel: K) -> K::Output {
        // SAFETY: this function's own instructions.
        unsafe { kernel.run::<Avx2>() }
    }

    #[derive(Clone, Copy)]
    pub(super) struct Avx512(__m512);

    // SAFETY: values exist only inside `with_avx512`; loads and stores touch what the trait says.
    unsafe impl Lanes for Avx512 {
        const WIDTH: usize = 16;
        const TILE_ROWS: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, len: usize) -> Self {
            // SAFETY: see the impl; masked lanes are not read.
            Self(unsafe { _mm512_maskz_loadu_ps(((1u32 << len.min(16)) - 1) as u16, from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the impl.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe {
                let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
            })
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: see the impl.
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }

    #[derive(Clone, Copy)]
    pub(super) struct Avx2(__m256);

    // SAFETY: values exist only inside `with_avx2`; loads and stores touch what the trait says.
    unsafe impl Lanes for Avx2 {
        const WIDTH: usize = 8;
        const TILE_ROWS: usize = 2;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_partial(from: *const f32, len: usize) -> Self {
            let mut lanes = [0.0; 8];
            // SAFETY: see the impl.
            unsafe {
                std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len.min(8));
                Self(_mm256_loadu_ps(lanes.as_ptr()))
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: see the impl.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_min_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
        }
        #[inline(always)]
        unsafe fn exp2_whole(self) -> Self {
            // SAFETY: see the impl.
            Self(unsafe {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            })
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: see the impl.
            unsafe {
                let quad = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
                _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a mut [f32]);

    impl WithLanes for Exp<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            for chunk in self.0.chunks_exact_mut(L::WIDTH) {
                // SAFETY: a chunk has WIDTH elements.
                unsafe { L::load(chunk.as_ptr()).exp().store(chunk.as_mut_ptr()) }
            }
        }
    }

    fn check_exp(run: impl Fn(&mut [f32])) {
        let inputs: Vec<f32> = (0..16_000).map(|i| (i as f32 - 14_000.0) / 160.0).collect();
        let mut outputs = inputs.clone();
        run(&mut outputs);
        for (x, y) in inputs.into_iter().zip(outputs) {
            let expected = f64::from(x).exp();
            assert!((f64::from(y) - expected).abs() <= expected * 3e-7 + 1e-37, "exp({x}) = {y}, expected {expected}");
        }
    }

    #[test]
    fn exp_is_within_a_few_ulp_on_the_widest_and_on_portable_lanes() {
        check_exp(|xs| dispatch(Exp(xs)));
        // SAFETY: portable lanes need no special instructions.
        check_exp(|xs| unsafe { Exp(xs).run::<Portable>() });
    }

    #[test]
    fn exp_of_what_is_masked_out_is_zero() {
        let mut xs = [f32::NEG_INFINITY; 16];
        dispatch(Exp(&mut xs));
        assert!(xs.iter().all(|&x| x < 1e-37));
    }
}
