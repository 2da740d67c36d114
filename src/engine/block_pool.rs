//! Which KV blocks are free, which are shared, and which still hold a prefix that a later request may reuse.
//!
//! A full block is published under its tokens and the block before it, so a chain of published blocks is a prefix.
//! Equality is exact: the map's key holds the tokens themselves, not a hash of them.
//! A published block is never written again; freeing it keeps its content until the block is needed.

use std::collections::{HashMap, VecDeque};

use super::request::Salt;

/// Identity of published content. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PrefixId {
    /// The empty prefix of the sequences with one salt: nothing that is published after it is found by others.
    Root(Option<Salt>),
    /// The prefix up to and including one block.
    Block(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PrefixKey {
    before: PrefixId,
    tokens: Box<[u32]>,
}

/// Allocates block indices `0..num_blocks`.
#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<Block>,
    /// Candidates for allocation, least recently freed first; an entry counts only if its stamp is the block's.
    free: VecDeque<(u32, u64)>,
    num_free: usize,
    published: HashMap<PrefixKey, (u32, PrefixId)>,
    last_id: u64,
}

#[derive(Clone, Debug, Default)]
struct Block {
    num_users: u32,
    stamp: u64,
    key: Option<PrefixKey>,
}

impl BlockPool {
    pub(super) fn new(num_blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); num_blocks],
            free: (0..num_blocks as u32).map(|block| (block, 0)).collect(),
            num_free: num_blocks,
            published: HashMap::new(),
            last_id: 0,
        }
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn num_free(&self) -> usize {
        self.num_free
    }

    /// Takes the block that was freed longest ago; whatever it had published is forgotten.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        loop {
            let (index, stamp) = self.free.pop_front()?;
            let block = &mut self.blocks[index as usize];
            if block.num_users > 0 || block.stamp != stamp {
                continue;
            }
            block.num_users = 1;
            self.num_free -= 1;
            if let Some(key) = block.key.take() {
                self.published.remove(&key);
            }
            return Some(index);
        }
    }

    /// Gives back one use of a block.
    ///
    /// # Panics
    /// If the block is not in use: a double free would hand one block to two sequences.
    pub(super) fn free(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        assert!(block.num_users > 0, "block {index} is freed twice");
        block.num_users -= 1;
        if block.num_users == 0 {
            block.stamp += 1;
            self.free.push_back((index, block.stamp));
            self.num_free += 1;
        }
    }

    /// Makes a full block findable; returns the identity of the prefix that ends with it.
    ///
    /// Where another block holds the same prefix already, that one stays published.
    pub(super) fn publish(&mut self, index: u32, before: PrefixId, tokens: &[u32]) -> PrefixId {
        let key = PrefixKey { before, tokens: tokens.into() };
        if let Some(&(_, id)) = self.published.get(&key) {
            return id;
        }
        self.last_id += 1;
        let id = PrefixId::Block(self.last_id);
        self.blocks[index as usize].key = Some(key.clone());
        self.published.insert(key, (index, id));
        id
    }

    /// Takes a use of the block that holds `tokens` after the prefix `before`, if there is one.
    pub(super) fn reuse(&mut self, before: PrefixId, tokens: &[u32]) -> Option<(u32, PrefixId)> {
        let key = PrefixKey { before, tokens: tokens.into() };
        let &(index, id) = self.published.get(&key)?;
        let block = &mut self.blocks[index as usize];
        if block.num_users == 0 {
            self.num_free -= 1;
        }
        block.num_users += 1;
        Some((index, id))
    }

    /// Forgets everything: after a failed step no content can be trusted.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.blocks.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: PrefixId = PrefixId::Root(None);

    #[test]
    fn every_block_is_allocated_once() {
        let mut pool = BlockPool::new(3);
        let mut taken: Vec<u32> = std::iter::from_fn(|| pool.allocate()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(pool.num_free(), 0);
        pool.free(1);
        assert_eq!(pool.allocate(), Some(1));
    }

    #[test]
    fn a_freed_block_keeps_its_prefix_until_it_is_needed() {
        let mut pool = BlockPool::new(2);
        let first = pool.allocate().expect("the pool is fresh");
        let id = pool.publish(first, ROOT, &[1, 2]);
        pool.free(first);
        assert_eq!(pool.reuse(ROOT, &[1, 2]), Some((first, id)));
        assert_eq!(pool.num_free(), 1);
        pool.free(first);
        assert!(pool.allocate().is_some() && pool.allocate().is_some());
        assert_eq!(pool.reuse(ROOT, &[1, 2]), None);
    }

    #[test]
    fn a_shared_block_is_free_only_after_its_last_user() {
        let mut pool = BlockPool::new(1);
        let block = pool.allocate().expect("the pool is fresh");
        pool.publish(block, ROOT, &[7]);
        pool.reuse(ROOT, &[7]).expect("it was published");
        pool.free(block);
        assert_eq!(pool.allocate(), None);
        pool.free(block);
        assert_eq!(pool.allocate(), Some(block));
    }

    #[test]
    fn the_same_tokens_under_another_salt_are_another_block() {
        let mut pool = BlockPool::new(2);
        let salted = |byte| PrefixId::Root(Some([byte; 32]));
        let (a, b) = (pool.allocate().expect("free"), pool.allocate().expect("free"));
        let after_a = pool.publish(a, salted(1), &[1]);
        assert_eq!((pool.reuse(ROOT, &[1]), pool.reuse(salted(2), &[1])), (None, None));
        assert_eq!(pool.reuse(salted(1), &[1]), Some((a, after_a)));
        let after_b = pool.publish(b, salted(2), &[1]);
        assert_ne!(after_a, after_b);
        assert_eq!(pool.reuse(salted(2), &[1]), Some((b, after_b)));
    }

    #[test]
    fn the_same_tokens_after_another_prefix_are_another_block() {
        let mut pool = BlockPool::new(2);
        let (a, b) = (pool.allocate().expect("free"), pool.allocate().expect("free"));
        let after_a = pool.publish(a, ROOT, &[1]);
        pool.publish(b, after_a, &[1]);
        assert_eq!(pool.reuse(ROOT, &[1]).map(|(block, _)| block), Some(a));
        assert_eq!(pool.reuse(after_a, &[1]).map(|(block, _)| block), Some(b));
    }
}
