//! The allocator, and how it is made to give memory back.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lets the allocator give back to the kernel what was freed 10 s ago or earlier.
///
/// It does so by itself, but only when a whole page of it (64 KiB and more) is freed after that time: a
/// server that had a flood and is quiet then kept all of its memory, for as long as it was watched. So
/// somebody has to free a page now and then. The block is never touched; it costs microseconds.
pub(crate) fn give_back() {
    const BLOCK_BYTES: usize = 4 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
}
