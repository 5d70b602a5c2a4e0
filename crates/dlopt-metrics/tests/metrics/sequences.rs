//! Error rates, BLEU and chrF of `fixtures/metrics/sequences.json`, which sacrebleu computed.

use dlopt_metrics::{Method, Options, SequenceSample, sequences};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../../fixtures/metrics/sequences.json")).unwrap();
    all["cases"].as_array().unwrap().clone()
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn samples(case: &Value) -> Vec<SequenceSample> {
    let rows = case["samples"].as_array().unwrap().iter().zip(case["texts"].as_array().unwrap());
    rows.map(|(row, texts)| {
        let texts: Vec<String> = texts.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        SequenceSample {
            hypothesis: tokens(&row["hypothesis"]),
            references: row["references"].as_array().unwrap().iter().map(tokens).collect(),
            text: texts[0].clone(),
            reference_texts: texts[1..].to_vec(),
        }
    })
    .collect()
}

#[test]
fn sequences_score_as_sacrebleu_says() {
    let cases = cases();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let samples = samples(&case);
        let report = sequences(&samples, &Options::default()).unwrap();
        let near = |found: f64, key: &str| {
            let wanted = case[key].as_f64().unwrap();
            assert!(
                (found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
                "{}: {key} {found}, not {wanted}",
                case["name"]
            );
        };
        near(report.bleu.value, "bleu");
        near(report.chrf.unwrap().value, "chrf");
        near(report.token_error_rate.value, "token_error_rate");
        let wrong = case["wrong"].as_f64().unwrap() / samples.len() as f64;
        assert!((report.sequence_error_rate.value - wrong).abs() < 1e-12);
        for estimate in [report.bleu, report.chrf.unwrap(), report.token_error_rate] {
            let interval = estimate.interval.unwrap();
            assert_eq!(interval.method, Method::BootstrapPercentile);
            assert!(interval.low <= estimate.value && estimate.value <= interval.high);
        }
        let mut alone = Options { threads: 1, ..Options::default() };
        assert_eq!(sequences(&samples, &alone).unwrap(), report, "threads change nothing");
        alone.seed += 1;
        assert_ne!(sequences(&samples, &alone).unwrap(), report);
        let text = report.text();
        assert!(text.contains("token error rate") && text.contains("chrF2"), "{text}");
    }
}

#[test]
fn what_is_right_has_no_errors_and_nothing_is_refused() {
    let own =
        SequenceSample { hypothesis: vec![1, 2, 3, 4, 5], references: vec![vec![1, 2, 3, 4, 5]], ..Default::default() };
    let report = sequences(std::slice::from_ref(&own), &Options::default()).unwrap();
    assert_eq!((report.token_error_rate.value, report.sequence_error_rate.value), (0.0, 0.0));
    assert!((report.bleu.value - 100.0).abs() < 1e-9);
    assert!(report.chrf.is_none() && !report.text().contains("chrF"));
    let empty = SequenceSample { hypothesis: Vec::new(), references: vec![vec![1, 2]], ..Default::default() };
    let report = sequences(&[empty], &Options::default()).unwrap();
    assert_eq!((report.token_error_rate.value, report.bleu.value), (1.0, 0.0));
    assert!(sequences(&[], &Options::default()).unwrap_err().message().contains("no samples"));
    let unanswered = SequenceSample { hypothesis: vec![1], ..Default::default() };
    let error = sequences(&[own, unanswered], &Options::default()).unwrap_err();
    assert!(error.message().contains("sample 1 has no reference"));
}
