//! The shim's allocator: an arena that only grows. A launch makes some thousand small strings and ends after a
//! millisecond, so what a general allocator does to reuse memory is wasted.
//!
//! The added time of a launch in the unit of `cargo bench -- launch`, one exec of a static C program. Medians of three
//! times 400 runs, interleaved, of the static shim with musl, with this allocator and with musl's:
//!
//! | accounts | arena | musl |
//! |---|---|---|
//! | 10 | 1.6 | 1.8 |
//! | 100 | 2.0 | 2.6 |
//! | 1,000 | 6.9 | 9.1 |
//!
//! The arena belongs to the thread that calls [`Arena::take`]. Other threads get the system's memory, and so do large
//! blocks and those that do not fit any more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// The size of the arena, bytes. Pages that are not used cost nothing.
const SIZE: usize = 1 << 20;
/// Larger blocks are the system's, bytes.
const LARGE: usize = 32 << 10;

thread_local! {
    /// Whether the arena belongs to this thread.
    static MINE: Cell<bool> = const { Cell::new(false) };
}

#[repr(C, align(4096))]
pub(crate) struct Arena {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// How many bytes are taken.
    taken: Cell<usize>,
    /// The last large block that was freed, and its size. Files are read one after the other, and fresh pages cost more
    /// than reading.
    spare: Cell<(*mut u8, usize)>,
}

// SAFETY: only the thread that took it uses its cells.
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

    /// Gives the arena to this thread. It is called once, before there are other threads.
    pub(crate) fn take() {
        MINE.set(true);
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    fn holds(&self, block: *mut u8) -> bool {
        (block as usize).wrapping_sub(self.start() as usize) < SIZE
    }

    /// Returns where a block ends, counted from the arena's start.
    fn end_of(&self, block: *mut u8, size: usize) -> usize {
        block as usize - self.start() as usize + size
    }

    /// Takes all bytes up to `end`. Returns whether they fit.
    fn take_up_to(&self, end: usize) -> bool {
        let fits = end <= SIZE;
        if fits {
            self.taken.set(end);
        }
        fits
    }
}

// SAFETY: blocks of the arena are aligned. They do not overlap, since `taken` falls only when the last of them is
// freed, and another thread's `alloc` never returns one. All others are the system's, which gets back what it returned.
// It uses nothing of a layout but a large alignment, so a block may be freed with another size than it was allocated
// with.
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
