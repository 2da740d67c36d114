/// Whether a row's sums may depend, on a GPU, on how many rows run beside it. On a CPU they never do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sums {
    /// The fastest body for as many rows as there are: bits may differ from batch to batch.
    #[default]
    Fastest,
    /// One body for any number of rows: a row's bits are its own. Prompts and mid-sized batches pay for it.
    BatchInvariant,
}
