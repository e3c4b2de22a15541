//! The memory of this process.

/// Gives memory that is free back to the system: the allocator keeps what lies between pieces that are in use, however much it is
/// (`malloc_trim(3)`). Takes milliseconds where it is hundreds of megabytes.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches nothing but pages in which nobody has anything.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_pieces_in_use_is_given_back() {
        const PIECE: usize = 24 * 1000;
        const COUNT: usize = 4000;
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
            pages * 4096
        };
        let mut pieces = Vec::new();
        let mut small = Vec::new();
        for number in 0..COUNT {
            pieces.push(vec![1_u8; PIECE]);
            small.push(Box::new(number));
        }
        let full = resident();
        drop(pieces);
        give_back();
        // Much of each piece is whole pages.
        let freed = full.saturating_sub(resident());
        assert!(freed > COUNT * PIECE / 2, "{freed} of {full}");
        assert_eq!(small.len(), COUNT);
    }
}
