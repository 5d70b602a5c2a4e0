//! Memory that a process does not need any more, given back to the system.

/// Gives back the free pieces of the heap, wherever in it they lie: what a long run that begins with large transients would
/// else hold to its end. Does nothing where the allocator is not glibc's.
pub fn release_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call may come at any time and from any thread, and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps the pages of the program's code and constants that were read from its file so far. They stay in the system's cache,
/// and what runs on is mapped again where it is reached; code that only starting and reading ran is not. Does nothing but on
/// Linux.
pub fn release_program_pages() {
    #[cfg(target_os = "linux")]
    // SAFETY: the callback takes what the call gives it, for as long as that lasts.
    unsafe {
        libc::dl_iterate_phdr(Some(release_segments), std::ptr::null_mut());
    }
}

/// Unmaps the pages of the first object, which is the program; libraries stay as they are.
///
/// # Safety
/// `info` is what `dl_iterate_phdr` gives.
#[cfg(target_os = "linux")]
unsafe extern "C" fn release_segments(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: as promised by the caller, and the call takes a number.
    let (info, page) = unsafe { (&*info, libc::sysconf(libc::_SC_PAGESIZE)) };
    let Ok(page) = usize::try_from(page) else { return 1 };
    // SAFETY: a loaded object has so many headers there.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let begin = info.dlpi_addr as usize + header.p_vaddr as usize;
        let (first, end) = (begin / page * page, (begin + header.p_memsz as usize) / page * page);
        if first < end {
            // SAFETY: nobody writes to these pages, so the file has what was in them.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: [u64; 4096] = {
        let mut table = [0; 4096];
        let mut at = 0;
        while at < table.len() {
            table[at] = 3 * at as u64;
            at += 1;
        }
        table
    };

    #[test]
    fn what_is_given_back_is_found_again() {
        let kept: Vec<u64> = (0..100_000).collect();
        drop((0..100_000).collect::<Vec<u64>>());
        let table = std::hint::black_box(&TABLE);
        assert!(table.iter().zip(0..).all(|(value, at)| *value == 3 * at));
        release_free_memory();
        release_program_pages();
        assert!(table.iter().zip(0..).all(|(value, at)| *value == 3 * at));
        assert!(kept.iter().zip(0..).all(|(value, at)| *value == at));
    }
}
