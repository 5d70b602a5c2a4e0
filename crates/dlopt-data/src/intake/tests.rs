use serde_json::json;

use super::*;

fn intake(about: serde_json::Value) -> Intake {
    Intake::new(Preprocessing::of(&about).unwrap()).unwrap()
}

fn series() -> Intake {
    intake(json!({
        "elements": { "kind": "series", "time": 3, "features": 2 }, "dtype": "F32", "scale": 1.0,
        "mean": [1.0, 10.0], "deviation": [2.0, 5.0], "raw": { "kind": "series", "features": 2 },
    }))
}

fn rows(intake: &Intake, text: &'static str) -> Result<Vec<(String, std::result::Result<Raw, String>)>> {
    let mut all = Vec::new();
    intake.read_rows("t", Box::new(text.as_bytes()), &mut |name, raw| {
        all.push((name, raw.map_err(|e| e.message().to_owned())));
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn series_are_standardised_padded_and_cut() {
    let intake = series();
    let taken = |values: &[f32]| {
        let raw = Series { time: values.len() / 2, features: 2, rate: None, values: Values::F32(values.to_vec()) };
        intake.take(Raw::Series(raw))
    };
    let (short, long) = (taken(&[3.0, 20.0]).unwrap(), taken(&[1.0, 15.0, 5.0, 10.0, 1.0, 0.0, 9.0, 9.0]).unwrap());
    assert_eq!((short.too_long, long.too_long), (None, Some(4)));
    let (inputs, lengths) = intake.batch(&[short, long.clone()]);
    assert_eq!(inputs, [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, -2.0]);
    assert_eq!(lengths, Some(vec![1, 3]));
    assert_eq!(intake.batch(&[long]).1, None);
    assert!(taken(&[]).unwrap_err().message().contains("there is nothing in it"));
    assert!(taken(&[f32::NAN, 0.0]).unwrap_err().message().contains("element 0 is NaN"));
    let other = intake.take(Raw::Row(Values::U8(vec![1]))).unwrap_err();
    assert!(other.message().contains("a row of 1 numbers; the network takes series of up to 3 steps"), "{other}");
}

#[test]
fn texts_that_are_cut_keep_their_end() {
    let about = |end: bool| {
        json!({
            "elements": { "kind": "tokens", "time": 4, "vocabulary": 257 }, "dtype": "U16", "scale": 1.0,
            "raw": { "kind": "text" }, "steps": [{ "step": "tokenise", "how": "bytes", "end": end, "length": 9 }],
        })
    };
    let (marked, plain) = (intake(about(true)), intake(about(false)));
    let values = |intake: &Intake, text: &str| intake.take(Raw::Text(text.to_owned())).unwrap().values;
    assert_eq!(values(&marked, "abcdef"), [97.0, 98.0, 99.0, 256.0]);
    assert_eq!(values(&marked, "ab"), [97.0, 98.0, 256.0]);
    assert_eq!(values(&plain, "abcdef"), [97.0, 98.0, 99.0, 100.0]);
    // A prompt is as long as it is, and does not end.
    assert_eq!(marked.prompt("abcdefghijkl").unwrap().len(), 12);
    assert_eq!(plain.prompt("ab").unwrap(), [97, 98]);
    assert!(plain.prompt("").unwrap_err().message().contains("empty"));
    assert!(series().prompt("a").unwrap_err().message().contains("is a text; the network takes series"));
}

#[test]
fn columns_are_told_by_name_or_place() {
    let named = |columns: &[&str]| {
        intake(json!({
            "elements": { "kind": "vector", "features": columns.len() }, "dtype": "F32", "scale": 1.0,
            "raw": { "kind": "row", "columns": columns },
        }))
    };
    let two = named(&["a", "b"]);
    let row = |values: &[f32]| Ok(Raw::Row(Values::F32(values.to_vec())));
    let expected = vec![("t:2".to_owned(), row(&[2.0, 1.0])), ("t:3".to_owned(), row(&[4.0, 3.0]))];
    assert_eq!(rows(&two, "b;x;a\n1;0;2\n3;0;4\n").unwrap(), expected);
    assert_eq!(rows(&two, "1,2\n").unwrap(), [("t:1".to_owned(), row(&[1.0, 2.0]))]);
    let bad = rows(&two, "1,2\n3\n4,inf\n").unwrap();
    assert!(bad[1].1.as_ref().unwrap_err().contains("line 2: has 1 columns; the network takes 2"), "{bad:?}");
    assert!(bad[2].1.as_ref().unwrap_err().contains("line 3: column 2: `inf` is not a finite number"), "{bad:?}");
    assert!(rows(&two, "x,a\n1,2\n").unwrap_err().message().contains("no column `b` among `x`, `a`"));
    assert!(rows(&two, "x,y\n1,2\n").unwrap_err().message().contains("no columns `a`, `b`"));
    assert!(rows(&two, "").unwrap_err().message().contains("is empty"));
    // Columns that had no names are told by their places, whatever the first line calls them.
    let numbered = named(&["0", "1"]);
    assert_eq!(rows(&numbered, "x,y\n1,2\n").unwrap(), [("t:2".to_owned(), row(&[1.0, 2.0]))]);
    // Series: any number of steps.
    let steps = rows(&series(), "1,2,3,4\n5,6\n7\n").unwrap();
    assert!(matches!(&steps[0].1, Ok(Raw::Series(own)) if own.time == 2));
    assert!(steps[2].1.as_ref().unwrap_err().contains("a multiple of 2"), "{steps:?}");
}

#[test]
fn preprocessing_that_cannot_be_used_is_refused() {
    let about = |scale: f32, step: &str| {
        Preprocessing::of(&json!({
            "elements": { "kind": "tokens", "time": 4, "vocabulary": 9 }, "dtype": "U8", "scale": scale,
            "steps": [{ "step": step }],
        }))
        .unwrap()
    };
    assert!(Intake::new(about(0.0, "mono")).unwrap_err().message().contains("scale"));
    assert!(Intake::new(about(1.0, "momo")).unwrap_err().message().contains("no step `momo`"));
    let own = Intake::new(about(1.0, "tokenise")).unwrap();
    assert_eq!(own.raw(), &RawInput::Text);
    let error = own.take(Raw::Text("a".to_owned())).unwrap_err();
    assert!(error.message().contains("token 97 is outside the 9"), "{error}");
}
