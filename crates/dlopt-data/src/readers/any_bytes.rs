//! Any bytes under any name are read or refused, and never panic.

use proptest::prelude::*;

use super::{FORMATS, ReadOptions, Samples, Source, Unit};

/// Reads all that a source holds, as far as it can be read.
fn read(source: &Source) {
    let samples = source.about.samples.min(50);
    match &source.samples {
        Samples::Stream(inputs) => drop(inputs.read(&mut |_| Ok(()))),
        Samples::Items(items) => {
            drop(items.read(&mut |_| Ok(())));
            (0..samples).for_each(|sample| drop(items.name(sample)));
        }
        Samples::Each(load) => (0..samples).for_each(|sample| drop((load.load(sample), load.name(sample)))),
    }
}

/// Bytes that look a little like what the readers know.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        &b"\n"[..],
        b"\t",
        b",",
        b"\"",
        b"{\"text\":",
        b"\"label\":",
        b"1",
        b"[2,3]",
        b"}",
        b"abc",
        b"(2)",
        b"#",
        b";;;",
        b"\r",
        b"\xff",
        b"\xef\xbb\xbf",
        b"-0.5e9",
        b"NaN",
        b"@data",
        b":",
        b"\0",
        "é".as_bytes(),
        b"\x1f\x8b\x08",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec(words, 0..60).prop_map(|words| words.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in bytes(), more in bytes(), which in 0..FORMATS.len(), flags in any::<u8>(), window in 1_usize..9,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let format = FORMATS[which];
        let extension = format.extensions.first().copied().unwrap_or("");
        let files = [dir.path().join(format!("a{extension}")), dir.path().join(format!("b{extension}"))];
        std::fs::write(&files[0], bytes).unwrap();
        std::fs::write(&files[1], more).unwrap();
        let is_set = |bit: u8| flags >> bit & 1 == 1;
        let options = ReadOptions {
            text: is_set(0).then(|| "1".to_owned()),
            answer: is_set(1).then(|| "2".to_owned()),
            label: is_set(2).then(|| "2".to_owned()),
            encoding: is_set(3).then(|| "utf-16le".to_owned()),
            unit: if is_set(4) { Unit::Words } else { Unit::Bytes },
            window: Some(window),
            tmp_dir: dir.path().to_owned(),
            ..ReadOptions::default()
        };
        let groups = (format.group)(if is_set(5) { files.to_vec() } else { files[..1].to_vec() });
        for group in groups.into_iter().flatten() {
            if let Ok(sources) = (format.open)(&group, &options) {
                sources.iter().for_each(read);
            }
        }
    }
}
