//! Any bytes as a container of `dlopt pack`; what is whole is unpacked.
#![no_main]

use dlopt_pack::Unpacker;
use libfuzzer_sys::fuzz_target;

/// Most bytes that are unpacked: blocks of few bytes may stand for many.
const MOST_BYTES: u64 = 64 << 20;

fn unpack(bytes: &[u8]) -> dlopt_checkpoint::Result<()> {
    let mut unpacker = Unpacker::open(bytes, "packed", 1)?;
    let mut total = 0;
    while let Some(file) = unpacker.next_file()? {
        let mut own = 0;
        while let Some(pieces) = unpacker.next_bytes()? {
            own += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
            if total + own > MOST_BYTES {
                return Ok(());
            }
        }
        assert_eq!(own, file.bytes, "a file has the bytes that it says");
        total += own;
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = unpack(bytes);
});
