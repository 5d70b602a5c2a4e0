use dlopt_checkpoint::{Checkpoint, Dtype};
use dlopt_inspect::{Diff, DiffOptions, diff};

use crate::fixture::{Model, fixture, noise, resources, usual};

fn between(a: &Model, b: &Model, tolerance: Option<f64>) -> Diff {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    diff(&a.open(left.path()), &b.open(right.path()), DiffOptions { tolerance }, &usual()).unwrap()
}

#[test]
fn figures_by_hand() {
    let a = Model::new().with_f32("w", &[2, 2], &[3.0, 0.0, 4.0, 0.0]);
    let b = Model::new().with_f32("w", &[2, 2], &[3.0, 0.0, 3.5, 0.0]);
    let found = between(&a, &b, Some(0.1));
    let own = &found.tensors[0];
    assert_eq!((own.max_error, own.relative_error, own.differing), (0.5, 0.1, 1));
    assert_eq!(own.sqnr_db, Some(20.0));
    assert_eq!((own.sparsity_a, own.sparsity_b), (0.5, 0.5));
    assert!((own.cosine.unwrap() - 23.0 / (5.0 * 21.25f64.sqrt())).abs() < 1e-12);
    assert_eq!((found.is_within, found.is_equal), (Some(true), false));
    assert_eq!(between(&a, &b, Some(0.099)).outside, ["w"]);
    let same = between(&a, &a, Some(0.0));
    assert!(same.is_equal && same.is_within == Some(true) && same.tensors[0].sqnr_db.is_none());
}

#[test]
fn the_worst_comes_first_and_what_has_no_partner_is_told() {
    let a = Model::new()
        .with_f32("a", &[2], &[1.0, 2.0])
        .with_f32("b", &[2], &[1.0, 2.0])
        .with_f32("c", &[2], &[1.0, 2.0])
        .with_f32("gone", &[1], &[1.0])
        .with_f32("shape", &[2], &[1.0, 2.0]);
    let b = Model::new()
        .with_f32("c", &[2], &[1.0, 2.0])
        .with_f32("b", &[2], &[1.0, 2.5])
        .with_f32("a", &[2], &[1.0, 2.0])
        .with_f32("new", &[1], &[1.0])
        .with_f32("shape", &[1, 2], &[1.0, 2.0]);
    let found = between(&a, &b, Some(1.0));
    let order: Vec<_> = found.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(order, ["b", "a", "c"]);
    assert_eq!((found.only_in_a, found.only_in_b), (vec!["gone".to_owned()], vec!["new".to_owned()]));
    assert_eq!(found.shape_mismatches[0].b, [1, 2]);
    assert_eq!(found.is_within, Some(false));
    assert_eq!(found.outside, ["shape", "gone", "new"]);
}

#[test]
fn a_nan_equals_a_nan_and_nothing_else() {
    let a = Model::new().with_f32("w", &[4], &[f32::NAN, f32::INFINITY, 1.0, 2.0]);
    let found = between(&a, &a, Some(0.0));
    assert_eq!((found.tensors[0].nonfinite_equal, found.is_equal, found.is_within), (2, true, Some(true)));
    let b = Model::new().with_f32("w", &[4], &[1.0, f32::INFINITY, 1.0, 2.0]);
    let own = &between(&a, &b, Some(1e9));
    assert_eq!((own.tensors[0].nonfinite_differing, own.tensors[0].relative_error), (1, f64::INFINITY));
    assert_eq!(own.is_within, Some(false));
}

#[test]
fn tiny_huge_and_wide_differences_are_not_lost() {
    let tiny = |x: f32| Model::new().with_f32("w", &[1], &[x]);
    assert!(between(&tiny(1e-30), &tiny(2e-30), None).tensors[0].relative_error > 0.99);
    let huge = between(&tiny(3e38), &tiny(-3e38), None);
    assert!((huge.tensors[0].relative_error - 2.0).abs() < 1e-6);
    let wide = |x: i64| Model::new().with("n", Dtype::I64, &[1], x.to_le_bytes().to_vec());
    assert_eq!(between(&wide(i64::MAX), &wide(i64::MAX - 1), None).tensors[0].differing, 1);
    let endless = Model::new().with("d", Dtype::F64, &[1], 1e200f64.to_le_bytes().to_vec());
    let other = Model::new().with("d", Dtype::F64, &[1], (-1e200f64).to_le_bytes().to_vec());
    assert_eq!(between(&endless, &other, Some(1e9)).is_within, Some(false));
    let double = |x: f64| Model::new().with("d", Dtype::F64, &[1], x.to_le_bytes().to_vec());
    assert_eq!(between(&double(1.0), &double(1.0 + 1e-15), None).tensors[0].differing, 1);
}

#[test]
fn dtypes_of_any_two_widths_can_be_compared() {
    for (a, _) in dlopt_checkpoint::DTYPES {
        for (b, _) in dlopt_checkpoint::DTYPES {
            let model = |dtype: Dtype| Model::new().with("t", dtype, &[6, 4], vec![0; 24 * dtype.bitsize() / 8]);
            let found = between(&model(a), &model(b), None);
            let is_complex = (a == Dtype::C64) != (b == Dtype::C64);
            assert_eq!(found.shape_mismatches.len(), usize::from(is_complex), "{a:?} {b:?}");
        }
    }
    // Six bits a value: rows of two end inside a byte, rows of four do not.
    let odd = |dtype: Dtype| Model::new().with("t", dtype, &[4, 2], vec![0; 8 * dtype.bitsize() / 8]);
    assert!(between(&odd(Dtype::F4), &odd(Dtype::F6_E2M3), None).is_equal);
}

#[test]
fn threads_and_memory_change_no_bit() {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Model::new().with_f32("w", &[700, 1001], &noise(700_700, 3)).open(left.path());
    let b = Model::new().with_f32("w", &[700, 1001], &noise(700_700, 4)).open(right.path());
    let all: Vec<_> = [(1, 1 << 20), (3, 1 << 24), (4, 1 << 30)]
        .into_iter()
        .map(|(threads, memory)| diff(&a, &b, DiffOptions::default(), &resources(threads, memory)).unwrap())
        .map(|d| serde_json::to_string(&d).unwrap())
        .collect();
    assert!(all.iter().all(|d| d == &all[0]));
}

#[test]
fn quantized_llamas_are_close_to_the_dense_one() {
    let dense = Checkpoint::open(&fixture("golden/tiny_llama/dense")).unwrap();
    for (name, most) in [("w8a8_int8", 0.01), ("w4a16_g32", 0.12), ("w4a16_g32_asym", 0.12), ("nvfp4a16", 0.12)] {
        let other = Checkpoint::open(&fixture(&format!("golden/tiny_llama/{name}"))).unwrap();
        let found = diff(&dense, &other, DiffOptions { tolerance: Some(most) }, &usual()).unwrap();
        assert!(
            found.only_in_a.is_empty() && found.only_in_b.is_empty() && found.shape_mismatches.is_empty(),
            "{name}"
        );
        assert_eq!(found.is_within, Some(true), "{name}: {:?}", found.tensors[0]);
        assert!(found.total.relative_error > 0.001 && found.b.bytes < found.a.bytes, "{name}");
        let head = found.tensors.iter().find(|t| t.name == "lm_head.weight").unwrap();
        assert_eq!(head.differing, 0);
    }
}
