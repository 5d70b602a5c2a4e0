//! A cache says what its teacher said, is whole or not there, and is never taken for another.

use std::path::Path;
use std::sync::Arc;

use dlopt_checkpoint::{Checkpoint, Dtype, Header, TensorInfo, write_file};
use dlopt_data::{Batch, Dataset};
use dlopt_train::{Settings, split_ranges};
use proptest::prelude::*;

use super::facts::KEY;
use super::{Cache, Facts, Keeping, Top};
use crate::teacher::{Said, Teacher};
use crate::testing::{augmenter, fill, noise, points, settings, teacher, words};

const WHOLE: Keeping = Keeping { is_half: false, top: None };

fn facts(teacher: &Teacher, dataset: &Dataset, settings: &Settings, keeping: Keeping) -> Facts {
    let samples = split_ranges(dataset, &settings.training_split).unwrap();
    Facts::new(teacher, dataset, &samples, settings, keeping)
}

/// What the teacher says of samples in a view, and what a cache of it does.
fn both(
    dir: &Path,
    dataset: &Arc<Dataset>,
    teacher: &mut Teacher,
    settings: &Settings,
    keeping: Keeping,
    (view, samples): (u64, &[usize]),
) -> (Said, Said) {
    let path = dir.join("answers.safetensors");
    let facts = facts(teacher, dataset, settings, keeping);
    fill(&path, &facts, teacher, (dataset, settings), None).unwrap();
    let mut cache = Cache::open(Checkpoint::open(&path).unwrap()).unwrap();
    cache.expect(&facts).unwrap();
    assert_eq!(cache.facts(), &facts);
    let mut batch = Batch::default();
    dataset.gather(samples, &mut batch).unwrap();
    if let Some(augmenter) = augmenter(settings, dataset) {
        let mut loader = dlopt_data::Loader::changing(dataset, vec![samples.to_vec()], 2, &augmenter.in_round(view), 1);
        batch = loader.next().unwrap().unwrap();
    }
    let (mut live, mut kept) = (Said::default(), Said::default());
    teacher.say(&batch, &mut live).unwrap();
    cache.say(view, &batch, &mut kept).unwrap();
    (live, kept)
}

fn assert_close(a: &[f32], b: &[f32], most: f32) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most * a.abs().max(1.0)), "{a:?}\n{b:?}");
}

#[test]
fn answers_in_32_bits_are_those_of_the_teacher_and_in_16_bits_nearly() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let mut teacher = teacher(dir.path(), 1, &dataset, &["fc1"]);
    // Out of order, and one of them twice.
    let asked = (0, &[28, 3, 0, 3][..]);
    let (live, kept) = both(dir.path(), &dataset, &mut teacher, &settings(), WHOLE, asked);
    assert_eq!(live, kept);
    assert_eq!((live.outputs.len(), live.features[0].len()), (4 * 3, 4 * 9));
    let other = tempfile::tempdir().unwrap();
    let half = Keeping { is_half: true, top: None };
    let (live, kept) = both(other.path(), &dataset, &mut teacher, &settings(), half, asked);
    assert_close(&live.outputs, &kept.outputs, 1e-3);
    assert_close(&live.features[0], &kept.features[0], 1e-3);
    assert!(live != kept);
}

#[test]
fn the_largest_logits_are_kept_and_the_mass_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let mut teacher = teacher(dir.path(), 1, &dataset, &["fc1"]);
    let keeping = Keeping { is_half: false, top: Some(Top { count: 1, temperature: 2.0 }) };
    let (live, kept) = both(dir.path(), &dataset, &mut teacher, &settings(), keeping, (0, &[7, 20]));
    assert_eq!(live.features, kept.features);
    for (a, b) in live.outputs.chunks_exact(3).zip(kept.outputs.chunks_exact(3)) {
        let most = (0..3).max_by(|&i, &j| a[i].total_cmp(&a[j])).unwrap();
        assert_eq!(a[most], b[most]);
        let mass = |row: &[f32]| row.iter().map(|z| (f64::from(*z) / 2.0).exp()).sum::<f64>();
        assert!((mass(a) - mass(b)).abs() < 1e-5 * mass(a), "{a:?} {b:?}");
        let others: Vec<f32> = (0..3).filter(|at| *at != most).map(|at| b[at]).collect();
        assert_eq!(others[0], others[1], "the others share what is left");
    }
    // More than there are is all of them.
    let other = tempfile::tempdir().unwrap();
    let all = Keeping { is_half: false, top: Some(Top { count: 9, temperature: 1.0 }) };
    let (live, kept) = both(other.path(), &dataset, &mut teacher, &settings(), all, (0, &[7, 20]));
    assert_eq!(live, kept);
}

#[test]
fn every_view_has_its_own_answers() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let mut teacher = teacher(dir.path(), 1, &dataset, &[]);
    let settings = noise(settings());
    let mut views = Vec::new();
    for view in 0..2 {
        let own = dir.path().join(view.to_string());
        std::fs::create_dir(&own).unwrap();
        let (live, kept) = both(&own, &dataset, &mut teacher, &settings, WHOLE, (view, &[1, 27, 5]));
        assert_eq!(live, kept);
        views.push(kept);
    }
    assert!(views[0] != views[1]);
    let mut cache = Cache::open(Checkpoint::open(&dir.path().join("0/answers.safetensors")).unwrap()).unwrap();
    let mut batch = Batch::default();
    dataset.gather(&[30], &mut batch).unwrap();
    let error = cache.say(1, &batch, &mut Said::default()).unwrap_err();
    assert!(error.message().contains("sample 30 in view 1"), "{error}");
    dataset.gather(&[3], &mut batch).unwrap();
    assert!(cache.say(2, &batch, &mut Said::default()).is_err());
}

#[test]
fn answers_of_sequences_are_kept_token_by_token() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(words(dir.path()));
    let mut teacher = teacher(dir.path(), 1, &dataset, &[]);
    let (live, kept) = both(dir.path(), &dataset, &mut teacher, &settings(), WHOLE, (0, &[13, 0, 6]));
    assert_eq!(live.outputs.len(), 3 * 5 * 7);
    assert_eq!(live, kept);
    let other = tempfile::tempdir().unwrap();
    let keeping = Keeping { is_half: true, top: Some(Top { count: 2, temperature: 1.0 }) };
    let (live, kept) = both(other.path(), &dataset, &mut teacher, &settings(), keeping, (0, &[13, 0]));
    for (a, b) in live.outputs.chunks_exact(7).zip(kept.outputs.chunks_exact(7)) {
        let most = |row: &[f32]| (0..7).max_by(|&i, &j| row[i].total_cmp(&row[j])).unwrap();
        assert_eq!(most(a), most(b));
    }
}

#[test]
fn a_cache_that_was_stopped_goes_on_and_has_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let mut teacher = teacher(dir.path(), 1, &dataset, &["fc1"]);
    let settings = noise(settings());
    let facts = facts(&teacher, &dataset, &settings, WHOLE);
    let [whole, stopped] = ["whole.safetensors", "stopped.safetensors"].map(|name| dir.path().join(name));
    fill(&whole, &facts, &mut teacher, (&dataset, &settings), None).unwrap();
    let error = fill(&stopped, &facts, &mut teacher, (&dataset, &settings), Some(1)).unwrap_err();
    assert!(error.message().contains("stopped after 29 answers"), "{error}");
    assert!(error.what_to_try().is_some_and(|hint| hint.contains("--resume")));
    assert!(!stopped.exists(), "a cache is whole or not there");
    let part = stopped.with_extension("parts").join("answers-000000.safetensors");
    let before = std::fs::metadata(&part).unwrap().modified().unwrap();
    // A part of something else, and one that was cut off, are asked for anew.
    std::fs::write(stopped.with_extension("parts").join("answers-000001.safetensors"), "nothing").unwrap();
    let error = fill(&stopped, &facts, &mut teacher, (&dataset, &settings), Some(1)).unwrap_err();
    assert!(error.message().contains("29 answers"), "{error}");
    assert_eq!(std::fs::metadata(&part).unwrap().modified().unwrap(), before, "what is there is used");
    fill(&stopped, &facts, &mut teacher, (&dataset, &settings), None).unwrap();
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&stopped).unwrap());
    let error = fill(&whole, &facts, &mut teacher, (&dataset, &settings), None).unwrap_err();
    assert!(error.message().contains("exists"), "{error}");
}

#[test]
fn a_cache_of_something_else_is_refused_and_every_difference_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = Arc::new(points());
    let own = teacher(dir.path(), 1, &dataset, &["fc1"]);
    let settings = noise(settings());
    let found = facts(&own, &dataset, &settings, WHOLE);
    found.check(&found).unwrap();
    // Fewer layers and views than there are, and another precision, are no harm.
    let fewer = teacher(dir.path(), 1, &dataset, &[]);
    let one_view = Settings { augment_views: Some(1), ..settings.clone() };
    found.check(&facts(&fewer, &dataset, &one_view, Keeping { is_half: true, top: None })).unwrap();
    let other = teacher(dir.path(), 2, &dataset, &["fc2"]);
    let mut wanted = Settings { augment_seed: Some(9), augment_views: Some(3), ..settings.clone() };
    wanted.training_split = "train+more".to_owned();
    let error = found.check(&facts(&other, &dataset, &wanted, WHOLE)).unwrap_err();
    for said in ["another teacher", "other samples", "another seed of the augmentation", "fewer views", "other layers"]
    {
        assert!(error.message().contains(said), "{said}: {error}");
    }
    for unsaid in ["other data", "prepared", "another augmentation", "size"] {
        assert!(!error.message().contains(unsaid), "{unsaid}: {error}");
    }
    assert!(error.what_to_try().is_some_and(|hint| hint.contains("--cache-teacher")));
    let words = words(dir.path());
    let of_words = teacher(dir.path(), 3, &words, &[]);
    let error = found.check(&facts(&of_words, &words, &settings, WHOLE)).unwrap_err();
    for said in ["other data", "answers of another size"] {
        assert!(error.message().contains(said), "{said}: {error}");
    }
}

#[test]
fn logits_that_16_bits_cannot_hold_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut values = points();
    let dataset = {
        let mut preprocessing = values.preprocessing().clone();
        preprocessing.scale = 1e9;
        values.set_preprocessing(preprocessing).unwrap();
        Arc::new(values)
    };
    let text = "layers = [{ type = \"dense\", units = \"classes\" }]";
    let checkpoint = crate::testing::checkpoint(dir.path(), text, 1, &dataset);
    let team = Arc::new(dlopt_kernels::nn::Team::new(1));
    let mut teacher = Teacher::open(vec![(checkpoint, 1.0)], &dataset, &[], "cpu", &team).unwrap();
    let half = facts(&teacher, &dataset, &settings(), Keeping { is_half: true, top: None });
    let path = dir.path().join("answers.safetensors");
    let error = fill(&path, &half, &mut teacher, (&dataset, &settings()), None).unwrap_err();
    assert!(error.message().contains("65504"), "{error}");
    assert!(error.what_to_try().is_some_and(|hint| hint.contains("--cache-dtype f32")));
    assert!(!path.exists());
}

#[test]
fn facts_with_fractions_are_known_again() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = points();
    let own = teacher(dir.path(), 1, &dataset, &[]);
    for number in 1..500_u32 {
        let mut facts = facts(&own, &dataset, &settings(), WHOLE);
        facts.teachers[0].weight = f64::from(number) / 7919.0;
        // As statistics of 32 bits are.
        facts.preprocessing =
            serde_json::json!({ "mean": [number as f32 / 977.0], "deviation": [(number as f32).sqrt()] });
        let found = Facts::read(Some(&facts.text())).unwrap();
        found.check(&facts).unwrap_or_else(|e| panic!("{number}: {e}"));
    }
}

/// A file with these facts over one tensor of logits.
fn with_facts(path: &Path, text: &str, shape: &[usize]) -> dlopt_checkpoint::Result<Cache> {
    let mut header = Header::default();
    header.metadata.insert(KEY.to_owned(), text.to_owned());
    header.tensors.push(TensorInfo::new("logits", Dtype::F32, shape));
    write_file(path, &header, &[vec![0; 4 * shape.iter().product::<usize>()]], true)?;
    Cache::open(Checkpoint::open(path)?)
}

#[test]
fn damaged_facts_are_refused_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("answers.safetensors");
    let dataset = points();
    let teacher = teacher(dir.path(), 1, &dataset, &[]);
    let good = serde_json::to_value(facts(&teacher, &dataset, &settings(), WHOLE)).unwrap();
    with_facts(&path, &good.to_string(), &[29, 1, 3]).unwrap();
    let changed = |key: &str, value: serde_json::Value| {
        let mut facts = good.clone();
        facts[key] = value;
        facts.to_string()
    };
    let huge = u64::MAX;
    for (text, said) in [
        ("{".to_owned(), "cannot be read"),
        ("[]".to_owned(), "cannot be read"),
        (changed("schema", 2.into()), "schema 2"),
        (changed("samples", serde_json::json!([[9, 3]])), "damaged"),
        (changed("samples", serde_json::json!([[0, huge]])), "damaged"),
        (changed("samples", serde_json::json!([[0, huge], [0, huge]])), "damaged"),
        (changed("views", huge.into()), "damaged"),
        (changed("views", 2.into()), "damaged"),
        (changed("outputs", 0.into()), "0 outputs"),
        (changed("outputs", huge.into()), "damaged"),
        (changed("width", 0.into()), "rows of 0"),
        (changed("width", 2.into()), "rows of 2"),
        (changed("width", huge.into()), "damaged"),
        (changed("layers", serde_json::json!([["fc1", [huge, huge, huge]]])), "feature.fc1"),
        (changed("keeping", serde_json::json!({ "is_half": true, "top": null })), "`logits`"),
        (
            changed("keeping", serde_json::json!({ "is_half": false, "top": { "count": huge, "temperature": 1.0 } })),
            "top",
        ),
        (changed("teachers", serde_json::json!("x")), "cannot be read"),
    ] {
        let error = with_facts(&path, &text, &[29, 1, 3]).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert!(error.message().contains(said) && error.message().contains("answers.safetensors"), "{text}\n{error}");
    }
    let mut header = Header::default();
    header.tensors.push(TensorInfo::new("logits", Dtype::F32, [29, 1, 3]));
    write_file(&path, &header, &[vec![0; 4 * 87]], true).unwrap();
    let error = Cache::open(Checkpoint::open(&path).unwrap()).err().unwrap();
    assert!(error.message().contains("holds no answers of a teacher"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_facts_make_it_panic(text in ".*", at in any::<prop::sample::Index>(), byte in any::<char>(), view in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.safetensors");
        let _ = with_facts(&path, &text, &[2, 1, 3]);
        // One character of good facts is another.
        let good = r#"{"schema":1,"teachers":[],"data":"","preprocessing":null,"samples":[[0,2]],"views":1,"augment":null,"augment_seed":null,"outputs":3,"width":3,"layers":[],"keeping":{"is_half":false,"top":null}}"#;
        let place = at.index(good.len());
        let changed: String = good.chars().enumerate().map(|(i, c)| if i == place { byte } else { c }).collect();
        if let Ok(mut cache) = with_facts(&path, &changed, &[2, 1, 3]) {
            let batch = Batch { indices: vec![0, 1], ..Batch::default() };
            let _ = cache.say(view, &batch, &mut Said::default());
        }
    }

    #[test]
    fn no_numbers_in_facts_make_it_panic(
        samples in prop::collection::vec(any::<[u64; 2]>(), 0..3),
        (views, outputs, width) in (any::<u64>(), any::<u64>(), any::<u64>()),
        extents in any::<[u64; 3]>(),
        top in any::<Option<u64>>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let text = serde_json::json!({
            "schema": 1, "teachers": [], "data": "", "preprocessing": null, "samples": samples, "views": views,
            "augment": null, "augment_seed": null, "outputs": outputs, "width": width, "layers": [["fc1", extents]],
            "keeping": { "is_half": false, "top": top.map(|count| serde_json::json!({ "count": count, "temperature": 1.0 })) },
        });
        let _ = with_facts(&dir.path().join("answers.safetensors"), &text.to_string(), &[2, 1, 3]);
    }
}
