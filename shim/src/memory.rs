//! The shim's memory: an arena that only grows. A launch makes some thousand small strings and is gone after a
//! millisecond, most of which a general allocator would spend on giving them back.
//!
//! It belongs to the thread that called [`Arena::take`]; other threads, and blocks that are large or do not fit any
//! more, get the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// Untouched pages of it cost nothing.
const SIZE: usize = 1 << 20;
/// Blocks above this are the system's.
const LARGE: usize = 32 << 10;

thread_local! {
    /// Whether the arena is this thread's.
    static MINE: Cell<bool> = const { Cell::new(false) };
}

/// The allocator.
#[repr(C, align(4096))]
pub(crate) struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// How many of them are taken.
    taken: Cell<usize>,
    /// The last large block that was given back, and its size: one file is read after the other, and fresh pages
    /// cost more than reading.
    spare: Cell<(*mut u8, usize)>,
}

// SAFETY: only the one thread that took it touches its cells.
#[expect(unsafe_code, reason = "an allocator is a static")]
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Arena {
        Arena {
            bytes: UnsafeCell::new([0; SIZE]),
            taken: Cell::new(0),
            spare: Cell::new((ptr::null_mut(), 0)),
        }
    }

    /// Makes the arena this thread's. Once, before there are others.
    pub(crate) fn take() {
        MINE.set(true);
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    fn holds(&self, block: *mut u8) -> bool {
        (block as usize).wrapping_sub(self.start() as usize) < SIZE
    }

    /// Where a block ends, counted from the arena's start.
    fn end_of(&self, block: *mut u8, size: usize) -> usize {
        block as usize - self.start() as usize + size
    }

    /// Takes everything up to there, if that fits.
    fn take_up_to(&self, end: usize) -> bool {
        let fits = end <= SIZE;
        if fits {
            self.taken.set(end);
        }
        fits
    }
}

// SAFETY: blocks of the arena do not overlap, since `taken` only falls when the last of them is given back, are
// aligned, and never reach another thread's `alloc`; the others are the system's, which gets back what it gave. It
// looks at nothing of a layout but a large alignment, so a block may come back with another size than it was given with.
#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= LARGE && layout.align() <= 4096 && MINE.get() {
            let begin = self.taken.get().next_multiple_of(layout.align());
            if self.take_up_to(begin + layout.size()) {
                // SAFETY: inside the arena, as was just checked.
                return unsafe { self.start().add(begin) };
            }
        }
        if layout.size() > LARGE && layout.align() <= 16 && MINE.get() {
            let (spare, size) = self.spare.get();
            if layout.size() <= size {
                self.spare.set((ptr::null_mut(), 0));
                return spare;
            }
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !self.holds(block) {
            if layout.size() > LARGE && MINE.get() && self.spare.get().0.is_null() {
                return self.spare.set((block, layout.size()));
            }
            // SAFETY: then it is the system's.
            return unsafe { System.dealloc(block, layout) };
        }
        let end = self.end_of(block, layout.size());
        if MINE.get() && end == self.taken.get() {
            self.taken.set(end - layout.size());
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.holds(block) {
            // SAFETY: then it is the system's.
            return unsafe { System.realloc(block, layout, size) };
        }
        let is_last = MINE.get() && self.end_of(block, layout.size()) == self.taken.get();
        if is_last && size <= LARGE && self.take_up_to(self.end_of(block, size)) || size <= layout.size() {
            return block;
        }
        // SAFETY: the new size with the old alignment is a valid layout, as the caller promises; both blocks are at
        // least as long as what is copied, and do not overlap.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size());
                self.dealloc(block, layout);
            }
            new
        }
    }
}
