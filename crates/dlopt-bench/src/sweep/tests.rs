use super::*;

const SWEEP: &str = r#"model = "cnn.safetensors"
data = "d.safetensors"
goal = "smallest within 0.5"

[[variant]]
name = "half"
steps = [{ verb = "prune", sparsity = 0.5 }]

[[grid]]
name = "both"
steps = [
  { verb = "prune", scope = "global", vary = { sparsity = [0.5, 0.8] } },
  { verb = "train", epochs = 1 },
  { verb = "quantize", vary = { scheme = ["w8a16", "w4a16"], group = ["channel"] } },
]
"#;

fn parsed(text: &str) -> Result<Sweep> {
    Sweep::parse(text, "sweep.toml", |step| match step.flags.iter().find(|flag| flag.starts_with("--wrong")) {
        Some(flag) => Err(Error::usage(format!("unexpected `{flag}`"))),
        None => Ok(()),
    })
}

#[test]
fn a_grid_makes_every_combination_and_baselines_are_always_in() {
    let sweep = parsed(SWEEP).unwrap();
    let names: Vec<&str> = sweep.variants.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "original",
            "RTN int8",
            "RTN int4",
            "half",
            "both, prune 0.5, train, quantize channel w8a16",
            "both, prune 0.5, train, quantize channel w4a16",
            "both, prune 0.8, train, quantize channel w8a16",
            "both, prune 0.8, train, quantize channel w4a16",
        ]
    );
    let last = &sweep.variants[7];
    assert_eq!(last.steps[0].flags, ["--scope=global", "--sparsity=0.8"]);
    assert_eq!((last.steps[1].verb.as_str(), last.steps[1].line), ("train", 13));
    assert_eq!(sweep.original_of(last), 0);
}

#[test]
fn variants_of_two_models_have_two_names() {
    let text = SWEEP.replace("model = \"cnn.safetensors\"", "models = [\"a.safetensors\", \"x/b.safetensors\"]");
    let sweep = parsed(&text).unwrap();
    assert_eq!(sweep.variants.len(), 16);
    assert_eq!((sweep.variants[3].name.as_str(), sweep.variants[11].name.as_str()), ("a: half", "b: half"));
    assert_eq!(sweep.original_of(&sweep.variants[11]), 8);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let message = |text: &str| {
        let error = parsed(text).unwrap_err();
        (error.message().to_owned(), error.what_to_try().unwrap_or_default().to_owned())
    };
    let (text, hint) = message(&SWEEP.replace("goal =", "gaol ="));
    assert!(text.starts_with("sweep.toml: line 3, `gaol = "), "{text}");
    assert_eq!(hint, "did you mean `goal`?");
    assert!(message(&SWEEP.replace("within", "without")).0.starts_with("sweep.toml: line 3: `smallest without"));
    assert_eq!(message(&SWEEP.replace("epochs", "wrong")).0, "sweep.toml: line 13: unexpected `--wrong=1`");
    assert!(message(&SWEEP.replace("[0.5, 0.8]", "0.5")).0.contains("line 12: `vary.sparsity` is no list"));
    assert!(message(&SWEEP.replace("verb = \"train\", ", "")).0.contains("line 13: no verb"));
    assert!(message("data = \"d\"").0.contains("no model"));
}
