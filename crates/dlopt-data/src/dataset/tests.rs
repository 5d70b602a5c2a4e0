use super::*;
use dlopt_checkpoint::Header;
use dlopt_checkpoint::TensorInfo;

/// A tensor to be written: name, dtype, shape, bytes.
pub(crate) type Tensor<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

/// The bytes of a safetensors file.
pub(crate) fn file_of(tensors: &[Tensor<'_>], about: Option<&str>) -> Vec<u8> {
    let mut header = Header::default();
    if let Some(about) = about {
        header.metadata.insert(DATASET_KEY.to_owned(), about.to_owned());
    }
    header.tensors = tensors.iter().map(|(name, dtype, shape, _)| TensorInfo::new(*name, *dtype, *shape)).collect();
    let mut bytes = header.to_bytes().unwrap();
    tensors.iter().for_each(|(.., data)| bytes.extend_from_slice(data));
    bytes
}

fn opened(tensors: &[Tensor<'_>], about: Option<&str>, memory_bytes: u64) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.safetensors");
    std::fs::write(&path, file_of(tensors, about)).unwrap();
    Dataset::open_within(&path, memory_bytes)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn pictures(samples: usize) -> Vec<Tensor<'static>> {
    let shape: &'static [usize] = Box::leak(vec![samples, 5, 3].into_boxed_slice());
    let labels: &'static [usize] = Box::leak(vec![samples].into_boxed_slice());
    vec![
        ("inputs", Dtype::U8, shape, (0..samples * 15).map(|i| (i * 31 % 256) as u8).collect()),
        ("labels", Dtype::I64, labels, (0..samples as i64).flat_map(|i| (i % 3).to_le_bytes()).collect()),
    ]
}

#[test]
fn a_file_that_a_user_made_is_a_dataset() {
    let data = opened(&pictures(11), None, u64::MAX).unwrap();
    assert_eq!(data.info().elements, Elements::Image { height: 5, width: 3, channels: 1 });
    assert_eq!(data.classes(), ["0", "1", "2"]);
    assert_eq!(data.split("train").unwrap(), 0..11);
    assert_eq!((data.samples(), data.outputs(), data.sample_elements()), (11, 3, 15));
    let mut batch = Batch::default();
    data.gather(&[10, 0], &mut batch).unwrap();
    assert_eq!(batch.labels, [1, 0]);
    assert_eq!(batch.indices, [10, 0]);
    assert_eq!(batch.inputs.len(), 30);
    assert_eq!(batch.inputs[16], 31.0 * (1.0 / 255.0));
    assert_eq!(batch.lengths, None);
}

#[test]
fn batches_from_disk_equal_those_from_memory() {
    let (memory, disk) = (opened(&pictures(101), None, u64::MAX).unwrap(), opened(&pictures(101), None, 0).unwrap());
    assert!(memory.is_in_memory() && !disk.is_in_memory());
    let (mut a, mut b) = (Batch::default(), Batch::default());
    for indices in [vec![7, 8, 9, 3, 3, 100, 0, 8], vec![], (0..101).rev().collect()] {
        memory.gather(&indices, &mut a).unwrap();
        disk.gather(&indices, &mut b).unwrap();
        assert_eq!(a, b);
    }
}

#[test]
fn parts_follow_each_other_along_the_samples() {
    let whole = pictures(7);
    let mut parts = vec![("labels", Dtype::I64, &[7][..], whole[1].3.clone())];
    parts.push(("inputs.1", Dtype::U8, &[5, 5, 3], whole[0].3[30..].to_vec()));
    parts.push(("inputs.0", Dtype::U8, &[2, 5, 3], whole[0].3[..30].to_vec()));
    let (mut a, mut b) = (Batch::default(), Batch::default());
    let indices: Vec<usize> = (0..7).collect();
    opened(&whole, None, u64::MAX).unwrap().gather(&indices, &mut a).unwrap();
    for memory in [0, u64::MAX] {
        opened(&parts, None, memory).unwrap().gather(&indices, &mut b).unwrap();
        assert_eq!(a, b);
    }
    parts.pop();
    let error = opened(&parts, None, 0).err().unwrap();
    assert!(error.message().contains("`inputs.0` is missing"), "{error}");
}

#[test]
fn steps_after_the_end_of_a_series_are_zero() {
    let about = r#"{"schema":1,"mean":[1.0,2.0],"deviation":[0.5,0.25]}"#;
    let tensors: Vec<Tensor<'_>> = vec![
        ("inputs", Dtype::F32, &[2, 3, 2], floats(&[1.0, 2.0, 2.0, 3.0, 0.0, 0.0, 1.5, 2.5, 1.0, 1.0, 3.0, 2.0])),
        ("labels", Dtype::U8, &[2], vec![1, 0]),
        ("lengths", Dtype::U32, &[2], [2_u32, 3].iter().flat_map(|x| x.to_le_bytes()).collect()),
    ];
    let data = opened(&tensors, Some(about), u64::MAX).unwrap();
    let mut batch = Batch::default();
    data.gather(&[1, 0], &mut batch).unwrap();
    assert_eq!(batch.inputs, [1.0, 2.0, 0.0, -4.0, 4.0, 0.0, 0.0, 0.0, 2.0, 4.0, 0.0, 0.0]);
    assert_eq!(batch.lengths, Some(vec![3, 2]));
}

#[test]
fn targets_travel_with_their_samples() {
    let tensors: Vec<Tensor<'_>> = vec![
        ("inputs", Dtype::F32, &[3, 1], floats(&[1.0, 2.0, 3.0])),
        ("targets", Dtype::F32, &[3, 2], floats(&[1.0, -1.0, 2.0, -2.0, 3.0, -3.0])),
    ];
    let data = opened(&tensors, None, u64::MAX).unwrap();
    assert_eq!((data.outputs(), data.classes().len()), (2, 0));
    let mut batch = Batch::default();
    data.gather(&[2, 0], &mut batch).unwrap();
    assert_eq!(batch.targets, [3.0, -3.0, 1.0, -1.0]);
    assert!(batch.labels.is_empty());
}

#[test]
fn inputs_that_are_no_number_name_their_sample() {
    let tensors: Vec<Tensor<'_>> = vec![
        ("inputs", Dtype::F32, &[3, 2], floats(&[1.0, 2.0, 3.0, 4.0, 5.0, f32::NAN])),
        ("labels", Dtype::U8, &[3], vec![0, 1, 0]),
    ];
    for memory in [0, u64::MAX] {
        let error = opened(&tensors, None, memory).unwrap().gather(&[0, 2], &mut Batch::default()).unwrap_err();
        assert!(error.message().contains("sample 2: element 1 is NaN"), "{error}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |tensors: &[Tensor<'_>], about: Option<&str>| {
        opened(tensors, about, u64::MAX).err().expect("must be refused").message().to_owned()
    };
    let inputs: Tensor<'_> = ("inputs", Dtype::U8, &[3, 2], vec![0; 6]);
    let labels: Tensor<'_> = ("labels", Dtype::U8, &[3], vec![0, 5, 1]);
    assert!(refused(std::slice::from_ref(&labels), None).contains("no tensor `inputs`"));
    assert!(refused(std::slice::from_ref(&inputs), None).contains("neither `labels` nor `targets`"));
    assert!(refused(&[inputs.clone(), ("labels", Dtype::U8, &[2], vec![0; 2])], None).contains("2 labels for 3"));
    let named = r#"{"schema":1,"classes":["a","b"]}"#;
    let outside = refused(&[inputs.clone(), labels.clone()], Some(named));
    assert!(outside.contains("label 5 of sample 1 is outside the 2 classes"), "{outside}");
    let negative = ("labels", Dtype::I8, &[3][..], vec![0, 255, 1]);
    assert!(refused(&[inputs.clone(), negative], None).contains("`labels` of sample 1 is -1"));
    let floats = ("labels", Dtype::F32, &[3][..], vec![0; 12]);
    assert!(refused(&[inputs.clone(), floats], None).contains("wanted whole numbers"));
    let lengths = ("lengths", Dtype::U8, &[3][..], vec![1; 3]);
    assert!(refused(&[inputs.clone(), labels.clone(), lengths], None).contains("which have no time"));
    let odd = ("inputs", Dtype::BOOL, &[3, 2][..], vec![0; 6]);
    assert!(refused(&[odd, labels.clone()], None).contains("BOOL"));
    let splits = r#"{"schema":1,"splits":{"train":[0,4]}}"#;
    assert!(refused(&[inputs.clone(), labels], Some(splits)).contains("0..4"));
    let empty = refused(&[("inputs", Dtype::U8, &[0, 2], vec![]), ("labels", Dtype::U8, &[0], vec![])], None);
    assert!(empty.contains("no numbers"), "{empty}");
}

#[test]
fn an_unknown_split_names_those_there_are() {
    let about = r#"{"schema":1,"splits":{"train":[0,8],"test":[8,11],"validation":[11,11]}}"#;
    let data = opened(&pictures(11), Some(about), u64::MAX).unwrap();
    assert_eq!(data.split("test").unwrap(), 8..11);
    let error = data.split("tests").unwrap_err();
    assert!(error.message().contains("no split `tests`; there are `train`, `test`, `validation`"), "{error}");
    assert_eq!(error.what_to_try(), Some("did you mean `test`?"));
    assert!(data.split("validation").unwrap_err().message().contains("has no samples"));
    assert!(data.gather(&[11], &mut Batch::default()).unwrap_err().message().contains("no sample 11"));
}

#[test]
fn statistics_of_a_checkpoint_can_replace_the_files_own() {
    let mut data = opened(&pictures(11), None, u64::MAX).unwrap();
    let mut other = data.preprocessing().clone();
    (other.mean, other.deviation) = (vec![0.5], vec![0.25]);
    data.set_preprocessing(other.clone()).unwrap();
    let mut batch = Batch::default();
    data.gather(&[0], &mut batch).unwrap();
    assert_eq!(batch.inputs[0], -2.0);
    other.dtype = "F32".to_owned();
    let error = data.set_preprocessing(other).unwrap_err();
    assert!(error.message().contains("element type F32 in what is wanted, U8 in the data"), "{error}");
}

#[test]
fn a_dataset_can_be_made_of_memory() {
    let parts = Parts {
        name: "made".to_owned(),
        info: DatasetInfo::plain(Elements::Vector { features: 2, names: Vec::new() }),
        dtype: Dtype::F32,
        inputs: floats(&[1.0, 2.0, 3.0, 4.0]),
        labels: vec![1, 0],
        targets: None,
        lengths: None,
    };
    let data = Dataset::from_parts(parts.clone()).unwrap();
    let mut batch = Batch::default();
    data.gather(&[1], &mut batch).unwrap();
    assert_eq!(batch.inputs, [3.0, 4.0]);
    let error = Dataset::from_parts(Parts { inputs: vec![0; 9], ..parts }).err().unwrap();
    assert!(error.message().contains("made: 9 bytes"), "{error}");
}

#[test]
fn shares_of_classes_are_targets_beside_labels() {
    let shares = [0.25, 0.75, 0.0, 1.0, 0.0, 0.0];
    let with = |shares: &[f32]| {
        let mut tensors = pictures(2);
        tensors.push(("shares", Dtype::F32, &[2, 3], floats(shares)));
        opened(&tensors, Some(r#"{"schema":1,"classes":["a","b","c"]}"#), u64::MAX)
    };
    let data = with(&shares).unwrap();
    let mut batch = Batch::default();
    data.gather(&[1, 0], &mut batch).unwrap();
    assert_eq!((batch.targets, batch.labels), (vec![1.0, 0.0, 0.0, 0.25, 0.75, 0.0], vec![1, 0]));
    let mut own = [9.0; 3];
    data.shares_of(0, Some((1, 0.5)), &mut own);
    assert_eq!(own, [0.625, 0.375, 0.0]);
    for (wrong, word) in [([0.5, 0.5, 0.5, 1.0, 0.0, 0.0], "sum 1.5"), ([1.5, -0.5, 0.0, 1.0, 0.0, 0.0], "sample 0")] {
        let error = with(&wrong).err().unwrap();
        assert!(error.message().contains(word), "{error}");
    }
    let few = opened(&[pictures(2).remove(0), ("shares", Dtype::F32, &[2, 3], floats(&shares))], None, u64::MAX);
    assert!(few.err().is_some());
}

#[test]
fn an_answer_can_be_replaced_by_another_that_fits() {
    // Three samples of sequences of up to four of five tokens, 4 ends them; the middle one has a second right answer.
    let halves = |values: &[u16]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let about = r#"{"schema":1,"elements":{"kind":"tokens","time":2,"vocabulary":3},
        "learns":{"kind":"sequence","time":4,"vocabulary":5,"start":0,"end":4}}"#;
    let tensors: Vec<Tensor<'_>> = vec![
        ("inputs", Dtype::U16, &[3, 2], halves(&[1, 2, 2, 1, 1, 1])),
        ("lengths", Dtype::U16, &[3], halves(&[2, 2, 2])),
        ("sequences", Dtype::U16, &[3, 4], halves(&[1, 4, 0, 0, 1, 2, 3, 4, 3, 3, 4, 0])),
        ("sequence_lengths", Dtype::U16, &[3], halves(&[2, 4, 3])),
        ("references", Dtype::U16, &[1, 4], halves(&[2, 4, 0, 0])),
        ("reference_lengths", Dtype::U16, &[1], halves(&[2])),
        ("reference_samples", Dtype::U16, &[1], halves(&[1])),
    ];
    let mut data = opened(&tensors, Some(about), u64::MAX).unwrap();
    data.set_answer(1, &[3, 4]).unwrap();
    data.set_answer(0, &[2, 2, 1, 4]).unwrap();
    // The further answer stays, and so do the neighbours.
    assert_eq!(data.answers(1), [&[3, 4][..], &[2, 4]]);
    assert_eq!((data.answers(0), data.answers(2)), (vec![&[2, 2, 1, 4][..]], vec![&[3, 3, 4][..]]));
    assert_eq!([0, 1, 2].map(|sample| data.sequence_length(sample)), [4, 2, 3]);
    let mut batch = Batch::default();
    data.gather(&[1, 0], &mut batch).unwrap();
    // Nothing of the longer one is left behind the shorter.
    assert_eq!((batch.sequences, batch.sequence_lengths), (vec![3, 4, 0, 0, 2, 2, 1, 4], vec![2, 4]));
    for (sample, tokens) in [(3, &[1, 4][..]), (0, &[]), (0, &[1, 1, 1, 1, 4]), (0, &[5, 4])] {
        let error = data.set_answer(sample, tokens).unwrap_err();
        assert!(
            error.message().contains(&format!("{} tokens is no answer for sample {sample}", tokens.len())),
            "{error}"
        );
    }
    assert_eq!(data.answers(0), [&[2, 2, 1, 4][..]]);
    let mut plain = opened(&pictures(2), None, u64::MAX).unwrap();
    assert!(plain.set_answer(0, &[1]).is_err() && plain.answers(0).is_empty());
}
