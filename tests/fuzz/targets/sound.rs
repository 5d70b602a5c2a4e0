//! Any bytes as a sound.
#![no_main]

use dlopt_data::read_sound;
use dlopt_fuzz::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_sound(&file("sound.wav", bytes));
});
