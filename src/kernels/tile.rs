//! Dot products of a few rows with four others, in registers: the inside of every product of matrices here.
#![allow(unsafe_code)]

use super::lanes::Lanes;

/// Rows that one call multiplies with at once.
pub(crate) const TILE_COLS: usize = 4;
/// The most rows a tile has on any machine.
pub(crate) const TILE_ROWS_MAX: usize = 4;

/// `dots[r][c]` of `xs[r]` and `ws[c]`, each `len` long.
///
/// Every dot product has one accumulator of its own and takes its elements in order, so its value does not depend on
/// which rows share the tile.
///
/// # Safety
/// `len` elements must be readable at every pointer, and the machine must have the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn dots<L: Lanes, const R: usize>(
    xs: [*const f32; R],
    ws: [*const f32; TILE_COLS],
    len: usize,
) -> [[f32; TILE_COLS]; R] {
    // SAFETY: `whole` lanes and then `rest` elements are read, together `len`.
    unsafe {
        let mut sums = [[L::splat(0.0); TILE_COLS]; R];
        let rest = len % L::WIDTH;
        let whole = len - rest;
        let mut i = 0;
        while i < whole {
            let w = [L::load(ws[0].add(i)), L::load(ws[1].add(i)), L::load(ws[2].add(i)), L::load(ws[3].add(i))];
            for r in 0..R {
                let x = L::load(xs[r].add(i));
                for c in 0..TILE_COLS {
                    sums[r][c] = x.mul_add(w[c], sums[r][c]);
                }
            }
            i += L::WIDTH;
        }
        if rest > 0 {
            for r in 0..R {
                let x = L::load_partial(xs[r].add(whole), rest);
                for c in 0..TILE_COLS {
                    sums[r][c] = x.mul_add(L::load_partial(ws[c].add(whole), rest), sums[r][c]);
                }
            }
        }
        let mut dots = [[0.0; TILE_COLS]; R];
        for r in 0..R {
            for c in 0..TILE_COLS {
                dots[r][c] = sums[r][c].sum();
            }
        }
        dots
    }
}
