//! The decoder of header blocks. gRPC clients send the same block for each call, so the last heads
//! are kept. A repeated block is not decoded again unless the table has changed.
//!
//! Source: RFC 7541 §3, §6.

use super::table::Table;
use super::{huffman, integer};
use crate::field::Field;
use crate::head::{Head, HeadBuilder, HeadFault};
use std::rc::Rc;

/// The size of the table in bytes: the default of RFC 9113, which we do not change.
const TABLE_MAX: usize = 4_096;
/// How many heads are kept, and the longest block of such a head in bytes.
const KEPT_HEADS: usize = 4;
const KEPT_BLOCK_MAX: usize = 512;

/// A block that is not valid HPACK. It ends the connection, since the tables of both sides differ
/// from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadBlock;

/// Decodes the blocks of one connection, in their order.
pub(crate) struct Decoder {
    table: Table,
    kept: Vec<Kept>,
    /// The index in `kept` that is replaced next.
    oldest: usize,
    scratch: Vec<u8>,
}

struct Kept {
    block: Box<[u8]>,
    version: u64,
    head: Rc<Head>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { table: Table::new(TABLE_MAX), kept: Vec::new(), oldest: 0, scratch: Vec::new() }
    }

    /// Decodes the block of a request.
    pub(crate) fn request(
        &mut self,
        block: &[u8],
        list_max: usize,
    ) -> Result<Result<Rc<Head>, HeadFault>, BadBlock> {
        let version = self.table.version();
        let same = |kept: &&Kept| kept.version == version && *kept.block == *block;
        if let Some(kept) = self.kept.iter().find(same) {
            return Ok(Ok(Rc::clone(&kept.head)));
        }
        let mut builder = HeadBuilder::new(list_max);
        self.decode(block, &mut |field| builder.take(field))?;
        let head = match builder.finish() {
            Ok(head) => Rc::new(head),
            Err(fault) => return Ok(Err(fault)),
        };
        if self.table.version() == version && block.len() <= KEPT_BLOCK_MAX {
            let kept = Kept { block: block.into(), version, head: Rc::clone(&head) };
            if self.kept.len() < KEPT_HEADS {
                self.kept.push(kept);
            } else {
                self.kept[self.oldest] = kept;
                self.oldest = (self.oldest + 1) % KEPT_HEADS;
            }
        }
        Ok(Ok(head))
    }

    /// Decodes a block, and passes each field to `take`.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        take: &mut dyn FnMut(Field),
    ) -> Result<(), BadBlock> {
        let mut may_resize = true;
        while let Some(first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer::read(&mut block, 7).ok_or(BadBlock)?;
                take(self.table.get(index).ok_or(BadBlock)?);
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut block, 6)?;
                self.table.add(field.clone());
                take(field);
            } else if first & 0x20 != 0 {
                let size = integer::read(&mut block, 5).ok_or(BadBlock)?;
                if !may_resize || size > TABLE_MAX {
                    return Err(BadBlock);
                }
                self.table.resize(size);
                continue;
            } else {
                take(self.literal(&mut block, 4)?);
            }
            may_resize = false;
        }
        Ok(())
    }

    /// Reads a literal. The index of its name has a prefix of `bits` bits.
    fn literal(&mut self, block: &mut &[u8], bits: u32) -> Result<Field, BadBlock> {
        let index = integer::read(block, bits).ok_or(BadBlock)?;
        self.scratch.clear();
        if index == 0 {
            string(block, &mut self.scratch)?;
        } else {
            let named = self.table.get(index).ok_or(BadBlock)?;
            self.scratch.extend_from_slice(named.name());
        }
        let name_len = self.scratch.len();
        string(block, &mut self.scratch)?;
        let (name, value) = self.scratch.split_at(name_len);
        let field = Field::new(name, value);
        self.scratch.shrink_to(KEPT_BLOCK_MAX);
        Ok(field)
    }
}

/// Reads a string literal and appends it to `out`.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), BadBlock> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer::read(block, 7).ok_or(BadBlock)?;
    let (bytes, rest) = block.split_at_checked(len).ok_or(BadBlock)?;
    *block = rest;
    if !is_huffman {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    if huffman::decode(bytes, out) { Ok(()) } else { Err(BadBlock) }
}

#[cfg(test)]
mod tests;
