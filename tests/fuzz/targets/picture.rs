//! Any bytes as a picture.
#![no_main]

use dlopt_data::read_picture;
use dlopt_fuzz::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_picture(&file("picture.png", bytes));
});
