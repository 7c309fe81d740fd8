//! The bytes of a simulated file, in copy-on-write blocks. A copy costs one reference count; a
//! hole takes no memory. `file.rs` tracks which bytes are durable.

use std::sync::Arc;

/// The unit that a disk writes atomically, in bytes.
pub(super) const SECTOR: u64 = 512;
/// The unit that copies share, in bytes.
pub(super) const BLOCK: u64 = 4096;
const BLOCK_LEN: usize = 4096;
/// Blocks in a chunk, the unit of the upper level.
const FAN: usize = 64;
/// The longest simulated file, in bytes. Positions fit a `usize`, and an absurd offset is an
/// error.
pub(super) const LEN_MAX: u64 = 1 << 40;

pub(super) type Block = [u8; BLOCK_LEN];

/// Invariant: beyond `len` every byte is zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    chunks: Arc<Vec<Option<Arc<Chunk>>>>,
}

#[derive(Clone)]
struct Chunk {
    blocks: [Option<Arc<Block>>; FAN],
}

/// A position or count below [`LEN_MAX`] as a `usize`.
fn size(number: u64) -> usize {
    usize::try_from(number).expect("a simulated file is shorter than the address space")
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The number of blocks up to the last that may be allocated.
    pub(super) fn block_end(&self) -> u64 {
        (self.chunks.len() * FAN) as u64
    }

    pub(super) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        let number = size(number);
        self.chunks.get(number / FAN)?.as_ref()?.blocks[number % FAN].as_ref()
    }

    /// Whether both share the block, by identity and not by value.
    pub(super) fn shares_block(&self, other: &Content, number: u64) -> bool {
        match (self.block(number), other.block(number)) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Replaces a block, also beyond the length; the caller then calls
    /// [`Content::settle_len`].
    pub(super) fn put_block(&mut self, number: u64, block: Option<Arc<Block>>) {
        let number = size(number);
        if block.is_none() && number / FAN >= self.chunks.len() {
            return;
        }
        self.chunk_mut(number / FAN).blocks[number % FAN] = block;
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = size(self.len.saturating_sub(offset).min(buf.len() as u64));
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let within = size(at % BLOCK);
            let piece = (BLOCK_LEN - within).min(count - done);
            let out = &mut buf[done..done + piece];
            match self.block(at / BLOCK) {
                Some(block) => out.copy_from_slice(&block[within..within + piece]),
                None => out.fill(0),
            }
            done += piece;
        }
        count
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let within = size(at % BLOCK);
            let piece = (BLOCK_LEN - within).min(buf.len() - done);
            let block = self.block_mut(at / BLOCK);
            block[within..within + piece].copy_from_slice(&buf[done..done + piece]);
            done += piece;
        }
        self.len = self.len.max(offset + buf.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.cut_blocks(len);
        }
        self.len = len;
    }

    /// Sets the length after [`Content::put_block`] and drops the bytes beyond it.
    pub(super) fn settle_len(&mut self, len: u64) {
        self.cut_blocks(len);
        self.len = len;
    }

    fn cut_blocks(&mut self, len: u64) {
        if len.is_multiple_of(BLOCK) {
            self.drop_blocks(len / BLOCK);
            return;
        }
        self.drop_blocks(len / BLOCK + 1);
        if self.block(len / BLOCK).is_some() {
            self.block_mut(len / BLOCK)[size(len % BLOCK)..].fill(0);
        }
    }

    fn drop_blocks(&mut self, from: u64) {
        let from = size(from);
        if from >= self.chunks.len() * FAN {
            return;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        chunks.truncate(from.div_ceil(FAN));
        if !from.is_multiple_of(FAN)
            && let Some(Some(chunk)) = chunks.last_mut()
        {
            Arc::make_mut(chunk).blocks[from % FAN..].fill(None);
        }
    }

    fn chunk_mut(&mut self, number: usize) -> &mut Chunk {
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() <= number {
            chunks.resize(number + 1, None);
        }
        let empty = || Arc::new(Chunk { blocks: [const { None }; FAN] });
        Arc::make_mut(chunks[number].get_or_insert_with(empty))
    }

    fn block_mut(&mut self, number: u64) -> &mut Block {
        let number = size(number);
        let slot = &mut self.chunk_mut(number / FAN).blocks[number % FAN];
        Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; BLOCK_LEN])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use random::Random;

    #[test]
    fn content_matches_a_vector_and_copies_do_not_change() {
        for seed in 0..30 {
            let mut rng = Random::new(seed);
            let mut content = Content::default();
            let mut plain = Vec::new();
            let mut copies = Vec::new();
            for step in 0..60 {
                let at = rng.below(600_000);
                match rng.below(4) {
                    0 => {
                        content.set_len(at);
                        plain.resize(size(at), 0);
                    }
                    1 => copies.push((content.clone(), plain.clone())),
                    _ => {
                        let bytes = vec![step + 1; size(rng.below(9_000))];
                        content.write(&bytes, at);
                        let end = size(at) + bytes.len();
                        plain.resize(plain.len().max(end), 0);
                        plain[size(at)..end].copy_from_slice(&bytes);
                    }
                }
                copies.truncate(4);
            }
            copies.push((content, plain));
            for (content, plain) in copies {
                let mut read = vec![9; plain.len() + 5];
                assert_eq!(content.read(&mut read, 0), plain.len());
                assert_eq!(read[..plain.len()], plain);
                assert_eq!(content.len(), plain.len() as u64);
            }
        }
    }
}
