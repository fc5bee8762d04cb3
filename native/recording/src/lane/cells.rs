//! Scalar cells of a lane.

use std::sync::atomic::AtomicU64;

pub(super) const CELLS_PER_LINE: usize = 16;

/// 128 bytes, because x86 prefetches cache lines in pairs and some Arm cores have lines this long.
#[repr(C, align(128))]
#[derive(Default)]
pub(super) struct Line([AtomicU64; CELLS_PER_LINE]);

/// Scalar cells in cache lines of their own.
pub(super) struct Cells(pub(super) Box<[Line]>);

impl Cells {
    pub(super) fn new(cells: usize) -> Self {
        Self((0..cells.div_ceil(CELLS_PER_LINE)).map(|_| Line::default()).collect())
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[AtomicU64] {
        let lines = &*self.0;
        // SAFETY: `Line` is 128 bytes long and consists of nothing but 16 cells, so a slice of lines
        // is a slice of 16 times as many cells; the borrow stays the same.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * CELLS_PER_LINE) }
    }
}
