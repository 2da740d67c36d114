//! Bytes on their way to a device, through a few buffers that take turns.
//!
//! A GPU's copy engine reads page-locked memory by itself; other memory the driver copies first, and its caller waits. So
//! bytes are copied here, on all model threads, into page-locked buffers: while one is on its way the next is filled, and
//! one is filled again only when the device has read it. What copies is behind [`CopyEngine`], so that the order of it all
//! is tested without a device.
#![allow(unsafe_code)]

use candle_core::{Result, bail};

use super::parallel::{Shared, for_each_range};

/// Bytes that a thread copies at once.
const READ_BYTES: usize = 256 << 10;

/// How much memory of the host is page-locked while weights go to a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagingConfig {
    /// Buffers that take turns. Default 4: one is filled, the others are on their way. With one, filling and sending wait
    /// for each other.
    pub num_buffers: usize,
    /// Bytes of each. Default 16 MiB: enough that starting a copy is little beside it.
    pub buffer_bytes: usize,
}

impl Default for StagingConfig {
    fn default() -> Self {
        Self { num_buffers: 4, buffer_bytes: 16 << 20 }
    }
}

impl StagingConfig {
    /// Checks that there is something to pass through.
    ///
    /// # Errors
    /// Names the field that is 0.
    pub(super) fn check(&self) -> Result<()> {
        for (field, value) in [("num_buffers", self.num_buffers), ("buffer_bytes", self.buffer_bytes)] {
            if value == 0 {
                bail!("staging: `{field}` is 0, expected a number above it")
            }
        }
        Ok(())
    }
}

/// What copies from buffers of the host to memory of a device while the host goes on.
pub(crate) trait CopyEngine {
    /// Memory of the device.
    type Target;

    /// The bytes of a buffer; asked for only while none of them is on its way.
    fn buffer(&mut self, buffer_idx: usize) -> Result<&mut [u8]>;

    /// Starts to copy the first `len` bytes of a buffer to `offset` of `target`, behind the copies started before.
    fn send(&mut self, buffer_idx: usize, len: usize, target: &Self::Target, offset: usize) -> Result<()>;

    /// Returns when the device has read what was last sent from a buffer.
    fn wait(&mut self, buffer_idx: usize) -> Result<()>;
}

/// Buffers in turn. After an error nothing more is sent.
pub(crate) struct Ring<E: CopyEngine> {
    engine: E,
    /// Of each buffer, whether it may still be read.
    in_flight: Vec<bool>,
    next: usize,
    has_failed: bool,
}

impl<E: CopyEngine> Ring<E> {
    /// Over the `num_buffers` buffers that `engine` has.
    pub(crate) fn new(engine: E, num_buffers: usize) -> Self {
        Self { engine, in_flight: vec![false; num_buffers], next: 0, has_failed: false }
    }

    pub(crate) fn engine(&self) -> &E {
        &self.engine
    }

    /// Sends `pieces`, one behind the other, to the start of `target`. Returns when all of them have been read; the last
    /// may still be on their way.
    ///
    /// # Errors
    /// What the engine answers, or that it failed before.
    pub(crate) fn send(&mut self, pieces: &[&[u8]], target: &E::Target) -> Result<()> {
        if self.has_failed {
            bail!("staging: an earlier copy failed")
        }
        let sent = self.send_in_chunks(&Pieces::new(pieces), target);
        self.has_failed = sent.is_err();
        sent
    }

    /// Returns when the device has read everything.
    ///
    /// # Errors
    /// What the engine answers.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let num_buffers = self.in_flight.len();
        (0..num_buffers).try_for_each(|i| self.free((self.next + i) % num_buffers))
    }

    fn send_in_chunks(&mut self, pieces: &Pieces<'_>, target: &E::Target) -> Result<()> {
        let mut offset = 0;
        while offset < pieces.len() {
            let buffer_idx = self.next;
            self.free(buffer_idx)?;
            let buffer = self.engine.buffer(buffer_idx)?;
            let len = buffer.len().min(pieces.len() - offset);
            pieces.copy(offset, &mut buffer[..len]);
            // Before the call: one that fails may have started all the same.
            self.in_flight[buffer_idx] = true;
            self.engine.send(buffer_idx, len, target, offset)?;
            self.next = (buffer_idx + 1) % self.in_flight.len();
            offset += len;
        }
        Ok(())
    }

    fn free(&mut self, buffer_idx: usize) -> Result<()> {
        if self.in_flight[buffer_idx] {
            self.engine.wait(buffer_idx)?;
            self.in_flight[buffer_idx] = false;
        }
        Ok(())
    }
}

impl<E: CopyEngine> Drop for Ring<E> {
    fn drop(&mut self) {
        // Each by itself: a device that failed reads nothing any more.
        for buffer_idx in 0..self.in_flight.len() {
            let _ = self.free(buffer_idx);
        }
    }
}

/// Slices as if they were one.
struct Pieces<'a> {
    pieces: &'a [&'a [u8]],
    /// Where each ends.
    ends: Vec<usize>,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [&'a [u8]]) -> Self {
        let end = |end: &mut usize, piece: &&[u8]| {
            *end += piece.len();
            Some(*end)
        };
        Self { pieces, ends: pieces.iter().scan(0, end).collect() }
    }

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Copies what begins at `start` to `out`, on all model threads.
    fn copy(&self, start: usize, out: &mut [u8]) {
        let len = out.len();
        let parts = Shared::new(out);
        for_each_range(len.div_ceil(READ_BYTES), READ_BYTES, |range| {
            let first = range.start * READ_BYTES;
            let part_len = len.min(range.end * READ_BYTES) - first;
            // SAFETY: ranges are disjoint, so the parts are.
            self.copy_here(start + first, unsafe { parts.part(first, part_len) });
        });
    }

    fn copy_here(&self, mut start: usize, mut out: &mut [u8]) {
        let mut piece_idx = self.ends.partition_point(|&end| end <= start);
        while !out.is_empty() {
            let piece = self.pieces[piece_idx];
            let rest = &piece[piece.len() - (self.ends[piece_idx] - start)..];
            let len = rest.len().min(out.len());
            let (here, there) = out.split_at_mut(len);
            here.copy_from_slice(&rest[..len]);
            (start, out) = (start + len, there);
            piece_idx += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::*;

    /// Xorshift64*.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
        }
    }

    /// A copy that was started: from which buffer, how much, to where.
    struct Copy {
        buffer_idx: usize,
        len: usize,
        target: Rc<RefCell<Vec<u8>>>,
        offset: usize,
    }

    /// A device that reads its buffers as late as it may: when it is waited for, or, now and then, a while after it was
    /// told to. So whatever is written over too early arrives wrong.
    struct LateDevice {
        buffers: Vec<Vec<u8>>,
        started: VecDeque<Copy>,
        random: Random,
        num_sent: usize,
        /// The call that fails.
        fails_at: Option<usize>,
        most_in_flight: Rc<RefCell<usize>>,
    }

    impl LateDevice {
        fn new(config: StagingConfig, seed: u64) -> Self {
            Self {
                buffers: vec![vec![0xee; config.buffer_bytes]; config.num_buffers],
                started: VecDeque::new(),
                random: Random(seed | 1),
                num_sent: 0,
                fails_at: None,
                most_in_flight: Rc::default(),
            }
        }

        fn finish_oldest(&mut self) {
            let Some(Copy { buffer_idx, len, target, offset }) = self.started.pop_front() else { return };
            target.borrow_mut()[offset..offset + len].copy_from_slice(&self.buffers[buffer_idx][..len]);
            // What is read once is not there to be read again.
            self.buffers[buffer_idx].fill(0xee);
        }
    }

    impl CopyEngine for LateDevice {
        type Target = Rc<RefCell<Vec<u8>>>;

        fn buffer(&mut self, buffer_idx: usize) -> Result<&mut [u8]> {
            let is_read = |copy: &Copy| copy.buffer_idx == buffer_idx;
            assert!(!self.started.iter().any(is_read), "buffer {buffer_idx} is filled while it is on its way");
            Ok(&mut self.buffers[buffer_idx])
        }

        fn send(&mut self, buffer_idx: usize, len: usize, target: &Self::Target, offset: usize) -> Result<()> {
            self.num_sent += 1;
            if self.fails_at == Some(self.num_sent) {
                bail!("copy {} failed", self.num_sent)
            }
            self.started.push_back(Copy { buffer_idx, len, target: Rc::clone(target), offset });
            let mut most = self.most_in_flight.borrow_mut();
            *most = self.started.len().max(*most);
            drop(most);
            for _ in 0..self.random.below(3) / 2 {
                self.finish_oldest();
            }
            Ok(())
        }

        fn wait(&mut self, buffer_idx: usize) -> Result<()> {
            while self.started.iter().any(|copy| copy.buffer_idx == buffer_idx) {
                self.finish_oldest();
            }
            Ok(())
        }
    }

    fn target(len: usize) -> Rc<RefCell<Vec<u8>>> {
        Rc::new(RefCell::new(vec![0; len]))
    }

    #[test]
    fn everything_arrives_whatever_the_sizes_and_no_buffer_is_filled_while_it_is_read() -> Result<()> {
        for seed in 1..400u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let config = StagingConfig { num_buffers: 1 + random.below(5), buffer_bytes: 1 + random.below(300) };
            let mut ring = Ring::new(LateDevice::new(config, seed), config.num_buffers);
            let mut sent = Vec::new();
            for _ in 0..1 + random.below(6) {
                let pieces: Vec<Vec<u8>> = (0..random.below(5))
                    .map(|_| (0..random.below(2) * random.below(700)).map(|_| random.below(256) as u8).collect())
                    .collect();
                let expected = pieces.concat();
                let to = target(expected.len());
                ring.send(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>(), &to)?;
                sent.push((to, expected));
            }
            ring.drain()?;
            assert!(*ring.engine.most_in_flight.borrow() <= config.num_buffers);
            for (to, expected) in sent {
                assert_eq!(*to.borrow(), expected, "seed {seed}, {config:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn chunks_larger_than_what_a_thread_takes_arrive_from_all_threads() -> Result<()> {
        let config = StagingConfig { num_buffers: 2, buffer_bytes: 3 * READ_BYTES + 17 };
        let mut ring = Ring::new(LateDevice::new(config, 3), config.num_buffers);
        let bytes: Vec<u8> = (0..10 * READ_BYTES + 5).map(|i| (i * 31 % 251) as u8).collect();
        let (first, rest) = bytes.split_at(READ_BYTES / 3);
        let (second, third) = rest.split_at(1);
        let to = target(bytes.len());
        ring.send(&[first, second, &[], third], &to)?;
        ring.drain()?;
        assert!(*to.borrow() == bytes);
        Ok(())
    }

    #[test]
    fn buffers_are_on_their_way_together_and_are_waited_for_in_the_end() -> Result<()> {
        let config = StagingConfig { num_buffers: 3, buffer_bytes: 4 };
        let mut device = LateDevice::new(config, 1);
        let most = Rc::clone(&device.most_in_flight);
        // This one reads nothing before it has to.
        device.random = Random(0);
        let mut ring = Ring::new(device, config.num_buffers);
        let to = target(12);
        ring.send(&[b"abcdefghijkl"], &to)?;
        assert_eq!((*most.borrow(), to.borrow().as_slice()), (3, &[0u8; 12][..]));
        drop(ring);
        assert_eq!(to.borrow().as_slice(), b"abcdefghijkl");
        Ok(())
    }

    #[test]
    fn after_a_copy_that_failed_nothing_more_is_sent() {
        let config = StagingConfig { num_buffers: 2, buffer_bytes: 4 };
        let mut device = LateDevice::new(config, 1);
        device.fails_at = Some(2);
        let mut ring = Ring::new(device, config.num_buffers);
        let to = target(12);
        let error = ring.send(&[b"abcdefghijkl"], &to).expect_err("the second copy fails").to_string();
        assert!(error.contains("copy 2 failed"), "{error}");
        let error = ring.send(&[b"ab"], &to).expect_err("the ring has failed").to_string();
        assert!(error.contains("an earlier copy failed"), "{error}");
        assert_eq!(ring.engine.num_sent, 2);
    }

    #[test]
    fn bounds_of_nothing_are_refused_by_name() {
        assert!(StagingConfig::default().check().is_ok());
        let error = StagingConfig { num_buffers: 0, ..StagingConfig::default() }.check();
        assert!(error.expect_err("it is 0").to_string().contains("num_buffers"));
        let error = StagingConfig { buffer_bytes: 0, ..StagingConfig::default() }.check();
        assert!(error.expect_err("it is 0").to_string().contains("buffer_bytes"));
    }
}
