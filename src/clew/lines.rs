//! From a byte of a text to its line and column.

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    /// Finds the lines; linear.
    pub(super) fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self([0].into_iter().chain(ends.map(|(end, _)| end + 1)).collect())
    }

    /// Line and column of a byte, both from 1, the column in bytes.
    pub(super) fn place(&self, offset: usize) -> (u32, u32) {
        let line = self.0.partition_point(|start| *start <= offset);
        let column = offset - self.0[line - 1] + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The byte at a line and column from 1.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.0.get(line.saturating_sub(1)).or(self.0.last()).copied().unwrap_or(0);
        start + column.saturating_sub(1)
    }
}
