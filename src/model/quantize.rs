//! Quantization on load: matrices that a checkpoint stores in full precision are rounded as they are read.
//!
//! Each block is rounded by itself, without calibration data. Which layout a matrix gets follows `llama-quantize`: beside
//! 4 bits the embedding and the head keep 6, and a row that is no whole number of superblocks gets the next layout of
//! blocks of 32. With 8-bit floats the embedding and the head stay as they are, as in vLLM. What rounding changed is
//! measured, matrix by matrix.

use std::fmt;
use std::ops::Range;
use std::panic::resume_unwind;

use super::{ModelError, QuantLayout, QuantWeight};

/// Rows that a thread decodes and rounds at once.
const PIECE_ROWS: usize = 64;
/// Names that a list in a sentence has at most.
const NAMES_MAX: usize = 4;

/// What matrices are rounded to while a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Q8_0: 8.5 bits per weight.
    Q8_0,
    /// Q4K: 4.5 bits per weight; Q6K for the embedding and the head. Where a row is no multiple of 256, Q5_0 and Q8_0.
    Q4K,
    /// F8E4M3: 8.25 bits per weight. The embedding and the head stay as they are stored, and so does what has rows that are
    /// no multiples of 128.
    Fp8,
}

impl Quantization {
    /// Its name, as configurations write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Fp8 => "fp8",
        }
    }

    /// The layout that the matrix `name` is meant to get; `None` where it is meant to stay.
    fn wanted(self, name: &str) -> Option<QuantLayout> {
        let is_vocabulary = name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight");
        Some(match self {
            Self::Q8_0 => QuantLayout::Q8_0,
            Self::Q4K if is_vocabulary => QuantLayout::Q6K,
            Self::Q4K => QuantLayout::Q4K,
            Self::Fp8 if is_vocabulary => return None,
            Self::Fp8 => QuantLayout::F8E4M3,
        })
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What rounding did to a model's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizationReport {
    /// What was asked for.
    pub quantization: Quantization,
    /// Matrices that were rounded; each expert and each head of a latent's projections counts.
    pub num_matrices: usize,
    /// The matrix with the largest relative error, and that error.
    pub worst: Option<(String, f64)>,
    /// Matrices that got another layout than was meant for them, because their rows are no whole number of its blocks.
    pub other_layouts: Vec<(String, QuantLayout)>,
    /// Matrices that stayed as they are stored, because no layout fits their rows.
    pub kept: Vec<String>,
    error: RoundingError,
}

/// Sums of squares over weights that were rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct RoundingError {
    difference: f64,
    weight: f64,
}

impl RoundingError {
    fn add(&mut self, other: Self) {
        self.difference += other.difference;
        self.weight += other.weight;
    }

    /// The root of the mean squared difference, over that of the weights.
    fn relative(self) -> f64 {
        if self.weight == 0.0 { 0.0 } else { (self.difference / self.weight).sqrt() }
    }
}

impl QuantizationReport {
    pub(crate) fn new(quantization: Quantization) -> Self {
        let (worst, other_layouts, kept) = (None, Vec::new(), Vec::new());
        Self { quantization, num_matrices: 0, worst, other_layouts, kept, error: RoundingError::default() }
    }

    /// The root mean square of all rounding errors over that of the weights that were rounded: 0.01 is one percent.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        self.error.relative()
    }

    /// Rounds a matrix, and takes down what that changed; one that no layout fits comes back as it is.
    ///
    /// Cost: one pass over the matrix on all cores, two for the error.
    ///
    /// # Errors
    /// [`ModelError::AlreadyQuantized`] for one that is not stored in full precision.
    pub(crate) fn round<'a>(&mut self, name: &str, weight: QuantWeight<'a>) -> Result<QuantWeight<'a>, ModelError> {
        if !weight.layout().is_dense() {
            let (tensor, found) = (name.to_owned(), weight.layout());
            return Err(ModelError::AlreadyQuantized { tensor, found, asked: self.quantization });
        }
        let Some(wanted) = self.quantization.wanted(name) else { return Ok(weight) };
        let Some(layout) = wanted.fitting(weight.shape().last().copied().unwrap_or(1)) else {
            note(&mut self.kept, name.to_owned());
            return Ok(weight);
        };
        if layout != wanted {
            note(&mut self.other_layouts, (name.to_owned(), layout));
        }
        let (rounded, error) = round(&weight, layout)?;
        self.num_matrices += 1;
        self.error.add(error);
        if self.worst.as_ref().is_none_or(|(_, worst)| error.relative() > *worst) {
            self.worst = Some((name.to_owned(), error.relative()));
        }
        Ok(rounded)
    }
}

/// Parts of one matrix come one after the other, and are listed once.
fn note<T: PartialEq>(list: &mut Vec<T>, entry: T) {
    if list.last() != Some(&entry) {
        list.push(entry);
    }
}

impl fmt::Display for QuantizationReport {
    /// A sentence for people: the error, where it is largest, and what is stored otherwise than asked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.relative_error();
        write!(
            f,
            "{} matrices rounded to {}, relative RMS error {percent:.3} %",
            self.num_matrices, self.quantization
        )?;
        if let Some((name, worst)) = &self.worst {
            write!(f, ", the largest {:.3} % in {name}", 100.0 * worst)?;
        }
        let mut layouts: Vec<QuantLayout> = self.other_layouts.iter().map(|(_, layout)| *layout).collect();
        layouts.sort_by_key(|layout| format!("{layout:?}"));
        layouts.dedup();
        for layout in layouts {
            let names = self.other_layouts.iter().filter(|(_, other)| *other == layout).map(|(name, _)| name.as_str());
            write!(f, "; {layout:?} where the rows fit no other: {}", some(names))?;
        }
        match self.kept.as_slice() {
            [] => Ok(()),
            kept => write!(f, "; as stored, since their rows fit nothing: {}", some(kept.iter().map(String::as_str))),
        }
    }
}

/// The first few of `names`, and how many more there are.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `weight` in another layout, whose blocks its rows are made of; on all cores.
fn round(weight: &QuantWeight<'_>, layout: QuantLayout) -> Result<(QuantWeight<'static>, RoundingError), ModelError> {
    let num_rows: usize = weight.shape()[..weight.shape().len() - 1].iter().product();
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = num_rows.div_ceil(num_threads).max(1);
    let parts = std::thread::scope(|scope| {
        let shares = (0..num_rows).step_by(share).map(|start| start..num_rows.min(start + share));
        let threads: Vec<_> = shares.map(|rows| scope.spawn(|| round_rows(weight, rows, layout))).collect();
        let parts = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        parts.collect::<Result<Vec<_>, ModelError>>()
    })?;
    let (mut bytes, mut error) = (Vec::new(), RoundingError::default());
    for (part, part_error) in parts {
        bytes.extend(part);
        error.add(part_error);
    }
    let rounded = QuantWeight::new(bytes, layout, weight.shape()).expect("rows are whole blocks of the layout");
    Ok((rounded, error))
}

fn round_rows(
    weight: &QuantWeight<'_>,
    rows: Range<usize>,
    layout: QuantLayout,
) -> Result<(Vec<u8>, RoundingError), ModelError> {
    let (mut bytes, mut error) = (Vec::new(), RoundingError::default());
    for start in rows.clone().step_by(PIECE_ROWS) {
        let piece = weight.rows(start..rows.end.min(start + PIECE_ROWS));
        let values = piece.to_f32()?;
        let rounded = QuantWeight::quantize(&values, layout, piece.shape())?;
        for (x, y) in values.iter().zip(rounded.to_f32()?) {
            error.difference += (f64::from(*x) - f64::from(y)).powi(2);
            error.weight += f64::from(*x).powi(2);
        }
        bytes.extend_from_slice(&rounded.bytes());
    }
    Ok((bytes, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Even numbers between -1 and 1, from a seed.
    fn matrix(rows: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..rows * width).map(|_| next()).collect()
    }

    fn weight(rows: usize, width: usize, seed: u64) -> QuantWeight<'static> {
        QuantWeight::quantize(&matrix(rows, width, seed), QuantLayout::F32, &[rows, width]).expect("f32 holds all")
    }

    /// The definition, over whole matrices.
    fn relative_error(pairs: &[(QuantWeight<'_>, QuantWeight<'_>)]) -> Result<f64, ModelError> {
        let (mut difference, mut total) = (0.0, 0.0);
        for (before, after) in pairs {
            for (x, y) in before.to_f32()?.into_iter().zip(after.to_f32()?) {
                difference += f64::from(x - y).powi(2);
                total += f64::from(x).powi(2);
            }
        }
        Ok(f64::sqrt(difference / total))
    }

    #[test]
    fn a_matrix_is_rounded_as_a_whole_and_the_error_is_what_it_is() -> Result<(), ModelError> {
        // Even numbers lie a twelfth of a step's square from their multiples: 8 bits miss them by about half a percent.
        for (quantization, layout, least, most) in
            [(Quantization::Q8_0, QuantLayout::Q8_0, 1e-3, 1e-2), (Quantization::Q4K, QuantLayout::Q4K, 1e-2, 1e-1)]
        {
            let mut report = QuantizationReport::new(quantization);
            let before = [weight(130, 256, 1), weight(3, 512, 2)];
            let after = [report.round("a.weight", before[0].clone())?, report.round("b.weight", before[1].clone())?];
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((after.layout(), after.shape()), (layout, before.shape()));
                assert_eq!(after.bytes(), QuantWeight::quantize(&before.to_f32()?, layout, before.shape())?.bytes());
            }
            let pairs: Vec<_> = before.into_iter().zip(after).collect();
            let expected = relative_error(&pairs)?;
            assert!((report.relative_error() / expected - 1.0).abs() < 1e-6, "{} {expected}", report.relative_error());
            assert!((least..most).contains(&expected), "{layout:?}: {expected}");
            let errors = [relative_error(&pairs[..1])?, relative_error(&pairs[1..])?];
            let (name, worst) = report.worst.clone().expect("two matrices were rounded");
            assert_eq!(name, if errors[0] > errors[1] { "a.weight" } else { "b.weight" });
            assert!((worst / errors[0].max(errors[1]) - 1.0).abs() < 1e-6);
            assert_eq!((report.num_matrices, report.kept.len(), report.other_layouts.len()), (2, 0, 0));
        }
        Ok(())
    }

    #[test]
    fn rows_that_fit_no_superblock_get_smaller_blocks_and_others_stay() -> Result<(), ModelError> {
        let mut report = QuantizationReport::new(Quantization::Q4K);
        for (name, width, layout) in [
            ("model.embed_tokens.weight", 512, QuantLayout::Q6K),
            ("lm_head.weight", 96, QuantLayout::Q8_0),
            ("down.weight", 96, QuantLayout::Q5_0),
            ("up.weight", 256, QuantLayout::Q4K),
            ("odd.weight", 33, QuantLayout::F32),
            ("odd.weight", 33, QuantLayout::F32),
        ] {
            assert_eq!(report.round(name, weight(2, width, 3))?.layout(), layout, "{name}");
        }
        assert_eq!(report.num_matrices, 4);
        assert_eq!(report.kept, ["odd.weight"]);
        let others: Vec<_> = report.other_layouts.iter().map(|(name, layout)| (name.as_str(), *layout)).collect();
        assert_eq!(others, [("lm_head.weight", QuantLayout::Q8_0), ("down.weight", QuantLayout::Q5_0)]);
        let text = report.to_string();
        for part in ["4 matrices", "q4_k", "Q5_0 where the rows fit no other: down.weight", "fit nothing: odd.weight"] {
            assert!(text.contains(part), "{text}");
        }
        Ok(())
    }

    #[test]
    fn eight_bit_floats_spare_the_vocabulary_and_what_is_no_whole_number_of_blocks() -> Result<(), ModelError> {
        let mut report = QuantizationReport::new(Quantization::Fp8);
        for (name, width, layout) in [
            ("model.embed_tokens.weight", 128, QuantLayout::F32),
            ("lm_head.weight", 128, QuantLayout::F32),
            ("down.weight", 96, QuantLayout::F32),
            ("up.weight", 256, QuantLayout::F8E4M3),
        ] {
            assert_eq!(report.round(name, weight(2, width, 3))?.layout(), layout, "{name}");
        }
        assert_eq!((report.num_matrices, report.kept.as_slice()), (1, &["down.weight".to_owned()][..]));
        assert!((0.01..0.05).contains(&report.relative_error()), "{report}");
        Ok(())
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..6).map(|idx| format!("m{idx}")).collect();
        assert_eq!(some(names.iter().map(String::as_str)), "m0, m1, m2, m3 and 2 more");
        assert_eq!(some(names[..4].iter().map(String::as_str)), "m0, m1, m2, m3");
    }

    #[test]
    fn what_is_quantized_already_is_refused_by_name() -> Result<(), ModelError> {
        let weight = QuantWeight::quantize(&matrix(2, 32, 4), QuantLayout::Q4_1, &[2, 32])?;
        let error = QuantizationReport::new(Quantization::Q8_0).round("a.weight", weight).err();
        let Some(ModelError::AlreadyQuantized { tensor, found, asked }) = error else { panic!("{error:?}") };
        assert_eq!((tensor.as_str(), found, asked), ("a.weight", QuantLayout::Q4_1, Quantization::Q8_0));
        Ok(())
    }

    #[test]
    fn weights_of_zero_have_no_error() -> Result<(), ModelError> {
        let zeros = QuantWeight::quantize(&[0.0; 64], QuantLayout::F32, &[2, 32])?;
        let mut report = QuantizationReport::new(Quantization::Q8_0);
        assert_eq!(report.round("a.weight", zeros)?.to_f32()?, [0.0; 64]);
        assert_eq!(report.relative_error(), 0.0);
        Ok(())
    }
}
