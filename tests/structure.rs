//! Whole channels, units and blocks that leave a checkpoint, end to end: what is left is a network like any other, the same
//! whatever it is read from and written to.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{
    Stored, assert_code, assert_same_tensors, err, fixture, json_out, ok_in, out, parse, pipe_in, read, read_file,
    run_in, temp_dir,
};

/// A residual block, a depthwise convolution, dense layers: all that channels run through.
const NET: &str = "layers = [\n    { type = \"conv2d\", filters = 12, kernel = 3, padding = 1, bias = false },\n    { type = \"batch_norm\", activation = \"relu\" },\n    { type = \"residual\", activation = \"relu\", body = [\n        { type = \"depthwise_conv2d\", kernel = 3, padding = 1 },\n        { type = \"conv2d\", filters = 9, kernel = 1, activation = \"relu\" },\n        { type = \"conv2d\", filters = 12, kernel = 1 },\n        { type = \"batch_norm\" },\n    ] },\n    { type = \"max_pool2d\" },\n    { type = \"flatten\" },\n    { type = \"dense\", units = 20, activation = \"relu\" },\n    { type = \"dense\", units = \"classes\" },\n]\n";

const TRAIN: &str = "train --data d.safetensors --batch 32 --learning-rate 0.004";

/// A folder with digits of 8 x 8 pixels (`d.safetensors`) and a network that knows most of them (`m.safetensors`).
fn ground() -> tempfile::TempDir {
    let dir = temp_dir();
    let digits = fixture("digits/digits.csv.gz");
    fs::write(dir.path().join("net.toml"), NET).unwrap();
    let prepare = format!("prepare {} --shape 8x8 --split-at 1437 -o d.safetensors -q", digits.display());
    ok_in(dir.path(), &prepare);
    ok_in(dir.path(), &format!("{TRAIN} --model net.toml --epochs 4 -o m.safetensors -q"));
    dir
}

fn accuracy(dir: &Path, file: &str) -> f64 {
    let report = json_out(&ok_in(dir, &format!("eval {file} --data d.safetensors --json")));
    report["model"]["metrics"]["classification"]["accuracy"]["value"].as_f64().unwrap()
}

/// Rows of each weight matrix.
fn widths(stored: &Stored) -> Vec<(String, usize)> {
    let weights = stored.names.iter().filter(|name| name.ends_with(".weight"));
    weights.map(|name| (name.clone(), stored.get(name).shape[0])).collect()
}

fn config(stored: &Stored) -> Value {
    serde_json::from_str(stored.metadata("config").unwrap()).unwrap()
}

#[test]
fn what_is_left_is_evaluated_trained_on_and_pruned_again() {
    let ground = ground();
    let dir = ground.path();
    let line =
        "prune m.safetensors --pattern channels --sparsity 0.5 --target flops --report r.json -o half.safetensors";
    let told = ok_in(dir, line);
    assert!(err(&told).contains("block1.conv2") && err(&told).contains("of the multiply-adds"), "{}", err(&told));
    let report: Value = serde_json::from_slice(&fs::read(dir.join("r.json")).unwrap()).unwrap();
    let [before, after] = ["before", "after"].map(|when| report["structure"][when]["multiply_adds"].as_f64().unwrap());
    assert!((after / before - 0.5).abs() < 0.03, "{after} of {before}");
    let half = read_file(&dir.join("half.safetensors"));
    let own = config(&half);
    assert_eq!(own["layers"][0]["filters"].as_u64(), Some(half.get("conv1.weight").shape[0] as u64));
    assert_eq!(half.get("conv1.weight").shape[0], half.get("block1.conv1.weight").shape[0], "depthwise");
    assert_eq!(half.get("fc1.weight").shape, [20, 16 * half.get("conv1.weight").shape[0]]);
    let counted = json_out(&ok_in(dir, "inspect half.safetensors --json"));
    assert!(counted.to_string().contains("\"prune\""), "the history says so");
    let (whole, pruned) = (accuracy(dir, "m.safetensors"), accuracy(dir, "half.safetensors"));
    ok_in(dir, &format!("{TRAIN} --init half.safetensors --epochs 3 -o tuned.safetensors -q"));
    let tuned = accuracy(dir, "tuned.safetensors");
    assert!(tuned > pruned && tuned > whole - 0.05, "{whole}, {pruned}, {tuned}");
    // No zeros were set, so none are kept, and none are promised.
    let told = ok_in(dir, &format!("{TRAIN} --init half.safetensors --epochs 1 -o again.safetensors"));
    assert!(!err(&told).contains("zeros stay"), "{}", err(&told));
    ok_in(dir, "verify half.safetensors");
    ok_in(
        dir,
        "prune tuned.safetensors --pattern channels,neurons --scope global --sparsity 0.3 -o less.safetensors -q",
    );
    assert!(read_file(&dir.join("less.safetensors")).get("fc1.weight").shape[0] <= 20);
    accuracy(dir, "less.safetensors");
    // And as a student's teacher, and in other formats.
    ok_in(dir, "quantize less.safetensors --scheme w8a16 --group channel -o small.safetensors -q");
    accuracy(dir, "small.safetensors");
    let twice = run_in(dir, "prune small.safetensors --pattern channels --sparsity 0.1 -o no.safetensors");
    assert_code(&twice, 1, "quantized");
    assert!(err(&twice).contains("dlopt convert --decompress"), "{}", err(&twice));
}

#[test]
fn zeros_of_before_are_promised_no_more() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --sparsity 0.6 -o zeros.safetensors -q");
    ok_in(dir, "prune zeros.safetensors --pattern channels --sparsity 0.4 -o both.safetensors -q");
    ok_in(dir, "verify both.safetensors");
    ok_in(dir, "prune both.safetensors --sparsity 0.7 -o more.safetensors -q");
    let verified = out(&ok_in(dir, "verify more.safetensors"));
    assert!(verified.contains("holds"), "{verified}");
}

#[test]
fn a_file_a_folder_a_pipe_and_a_recipe_give_the_same_tensors() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "convert m.safetensors -o model/ -q");
    fs::write(
        dir.join("recipe.toml"),
        "[[pass]]\nverb = \"prune\"\npattern = \"channels,neurons\"\nsparsity = 0.4\nscope = \"global\"\n\
         [[pass]]\nverb = \"convert\"\ndtype = \"bf16\"\n",
    )
    .unwrap();
    for scope in ["tensor", "global"] {
        let prune = format!("prune --pattern channels,neurons --sparsity 0.4 --scope {scope} -q");
        let one = ok_in(dir, &format!("{prune} m.safetensors --threads 1")).stdout;
        let many = ok_in(dir, &format!("{prune} m.safetensors --threads 9 --memory 8MiB")).stdout;
        assert!(one == many, "{scope}");
        let piped = pipe_in(dir, Some(&fs::read(dir.join("m.safetensors")).unwrap()), &[&prune]).ok();
        assert!(one == piped, "{scope}");
        ok_in(dir, &format!("{prune} model -o out/ --force"));
        assert_same_tensors(&read(&dir.join("out")), &parse(&one));
        let text = fs::read_to_string(dir.join("out/config.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), config(&parse(&one)));
        if scope == "global" {
            let recipe = ok_in(dir, "run recipe.toml m.safetensors -q").stdout;
            let pipe = pipe_in(dir, None, &[&format!("{prune} m.safetensors"), "convert --dtype bf16 -q"]).ok();
            assert!(recipe == pipe);
        }
    }
}

#[test]
fn blocks_leave_and_the_rest_keeps_its_names() {
    let ground = ground();
    let dir = ground.path();
    ok_in(dir, "prune m.safetensors --pattern layers --sparsity 1 --target width -o flat.safetensors -q");
    let flat = read_file(&dir.join("flat.safetensors"));
    let names: Vec<String> = widths(&flat).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["conv1.weight", "bn1.weight", "fc1.weight", "fc2.weight"]);
    assert_eq!(flat.get("fc1.weight"), read_file(&dir.join("m.safetensors")).get("fc1.weight"));
    ok_in(dir, &format!("{TRAIN} --init flat.safetensors --epochs 1 -o tuned.safetensors -q"));
    let refused = run_in(dir, "prune flat.safetensors --pattern layers --sparsity 0.5 -o no.safetensors");
    assert_code(&refused, 1, "no blocks");
    assert!(err(&refused).contains("no layers can leave"), "{}", err(&refused));
}

#[test]
fn data_say_which_channels_matter_and_statistics_are_estimated_anew() {
    let ground = ground();
    let dir = ground.path();
    let prune = "prune m.safetensors --pattern channels --sparsity 0.5 --target flops -q";
    let kept = |criterion: &str, more: &str| {
        ok_in(dir, &format!("{prune} --criterion {criterion} {more} -o p.safetensors --force"));
        read_file(&dir.join("p.safetensors"))
    };
    let plain = kept("l2", "");
    for criterion in ["taylor", "fisher", "mean-activation", "apoz"] {
        let data = kept(criterion, "--data d.safetensors");
        assert_eq!(widths(&data), widths(&plain));
        assert_ne!(data.get("conv1.weight"), plain.get("conv1.weight"), "{criterion}");
        let history = data.metadata("dlopt.history").unwrap();
        assert!(history.contains(criterion) && history.contains("\"samples\":1024"), "{history}");
        let again = ok_in(dir, &format!("{prune} --criterion {criterion} --data d.safetensors --threads 5")).stdout;
        assert!(fs::read(dir.join("p.safetensors")).unwrap() == again, "{criterion}: at any number of threads");
    }
    let told =
        ok_in(dir, "prune m.safetensors --pattern channels --sparsity 0.5 --recover d.safetensors -o r.safetensors");
    assert!(err(&told).contains("statistics of 2 batch norms and 2 biases estimated anew"), "{}", err(&told));
    ok_in(dir, "prune m.safetensors --pattern channels --sparsity 0.5 -o p.safetensors --force -q");
    let (before, after) = (read_file(&dir.join("p.safetensors")), read_file(&dir.join("r.safetensors")));
    let is_anew = |name: &str| name.contains("running") || name.starts_with("fc") && name.ends_with("bias");
    for name in &before.names {
        assert_eq!(before.get(name) == after.get(name), !is_anew(name), "{name}");
    }
    assert!(accuracy(dir, "r.safetensors") > accuracy(dir, "p.safetensors") - 0.02);
    // What comes through a pipe is gone when biases would be compared.
    let pruned = "prune - --pattern channels --sparsity 0.5 --recover d.safetensors -o piped.safetensors";
    let told = pipe_in(dir, None, &["convert m.safetensors -q", pruned]);
    assert!(told.errors[1].contains("statistics of 2 batch norms estimated anew"), "{:?}", told.errors);
    assert!(!support::names_in(dir).iter().any(|name| name.starts_with(".dlopt-")), "nothing is left between");
}

#[test]
fn large_tensors_go_piece_by_piece() {
    let ground = ground();
    let dir = ground.path();
    let layers = "layers = [{ type = \"flatten\" }, { type = \"dense\", units = 20000, activation = \"relu\" }, { type = \"dense\", units = \"classes\" }]";
    fs::write(dir.join("wide.toml"), layers).unwrap();
    ok_in(dir, "train --data d.safetensors --model wide.toml --epochs 1 --batch 256 -o wide.safetensors -q");
    let prune = "prune wide.safetensors --pattern neurons --sparsity 0.5 --target width";
    // Twelve times the larger weight would not fit.
    let little = "--memory 56MiB -q";
    ok_in(dir, &format!("{prune} {little} -o half.safetensors"));
    let bytes = fs::read(dir.join("half.safetensors")).unwrap();
    for more in ["--threads 1", "--threads 3 --memory 2GB", "--memory 50MiB"] {
        assert!(ok_in(dir, &format!("{prune} {more} -q")).stdout == bytes, "{more}");
    }
    let (whole, half) = (read_file(&dir.join("wide.safetensors")), read_file(&dir.join("half.safetensors")));
    assert_eq!([&half.get("fc1.weight").shape[..], &half.get("fc2.weight").shape[..]], [[10_000, 64], [10, 10_000]]);
    let (all, kept) = (whole.get("fc1.weight").values(), half.get("fc1.weight").values());
    let mut rows = all.chunks_exact(64);
    for row in kept.chunks_exact(64) {
        assert!(rows.any(|own| own == row), "rows that stay, in their order");
    }
    let biases = whole.get("fc1.bias").values();
    let places = |values: &[f32]| all.chunks_exact(64).position(|own| own == values).unwrap();
    let own = half.get("fc1.bias").values();
    for at in [0, 4321, 9_999] {
        assert_eq!(own[at], biases[places(&kept[at * 64..][..64])], "a bias goes with its row");
    }
    // What follows reads what is left as if it lay in a file.
    let recipe = "[[pass]]\nverb = \"prune\"\npattern = \"neurons\"\nsparsity = 0.5\ntarget = \"width\"\n[[pass]]\nverb = \"quantize\"\nscheme = \"w8a16\"\ngroup = 64\nfallback = \"channel\"\n";
    fs::write(dir.join("both.toml"), recipe).unwrap();
    ok_in(dir, "run both.toml wide.safetensors -o chained.safetensors -q");
    ok_in(dir, "quantize half.safetensors --scheme w8a16 --group 64 --fallback channel -o after.safetensors -q");
    assert_same_tensors(&read_file(&dir.join("chained.safetensors")), &read_file(&dir.join("after.safetensors")));
}

#[test]
fn what_pruning_costs_is_told_and_drawn() {
    let ground = ground();
    let dir = ground.path();
    let line =
        "prune m.safetensors --pattern channels --sparsity 0.6 --eval d.safetensors --report r.json -o p.safetensors";
    let told = err(&ok_in(dir, &format!("{line} --recover d.safetensors")));
    let report: Value = serde_json::from_slice(&fs::read(dir.join("r.json")).unwrap()).unwrap();
    let value = |when: &str| report["quality"][when]["value"].as_f64().unwrap();
    assert_eq!(value("before"), accuracy(dir, "m.safetensors"));
    assert_eq!(value("recovered"), accuracy(dir, "p.safetensors"));
    assert!(value("pruned") < value("before"));
    let change = report["quality"]["recovered"]["paired"]["difference"].as_f64().unwrap();
    assert!((change - (value("recovered") - value("before"))).abs() < 1e-9);
    assert!(report["structure"]["after"].is_object() && report["quality"]["before"]["paired"].is_null());
    for text in
        ["accuracy", &format!("{:.2}%", 100.0 * value("pruned")), &format!("{:+.2}", 100.0 * change), "estimated anew"]
    {
        assert!(told.contains(text), "{text} in {told}");
    }
    ok_in(dir, &format!("{line} --force -q"));
    let report: Value = serde_json::from_slice(&fs::read(dir.join("r.json")).unwrap()).unwrap();
    assert_eq!(report["quality"]["pruned"]["value"], value("pruned"), "recovery comes after");
    assert!(report["quality"]["recovered"].is_null());
    // The statistics of norms are made up for zeros as well, which stay.
    let line = "prune m.safetensors --sparsity 0.5 --eval d.safetensors --recover d.safetensors --report r.json -q";
    ok_in(dir, &format!("{line} --store bitmask -o z.safetensors"));
    let report: Value = serde_json::from_slice(&fs::read(dir.join("r.json")).unwrap()).unwrap();
    assert!(report["quality"]["recovered"]["paired"].is_object(), "{}", report["quality"]);
    ok_in(dir, "prune m.safetensors --sparsity 0.5 -o plain.safetensors -q");
    ok_in(dir, "convert z.safetensors --decompress -o dense.safetensors -q");
    let (plain, dense) = (read_file(&dir.join("plain.safetensors")), read_file(&dir.join("dense.safetensors")));
    let changed: Vec<&String> = plain.names.iter().filter(|name| plain.get(name) != dense.get(name)).collect();
    assert!(changed.len() >= 4 && changed.iter().all(|name| name.contains(".running_")), "{changed:?}");
    fs::remove_file(dir.join("z.safetensors")).unwrap();
    // A bar for every tensor that was pruned.
    let told = err(&ok_in(dir, "prune m.safetensors --sparsity 0.7 --graph z.svg -o z.safetensors"));
    let drawn = fs::read_to_string(dir.join("z.svg")).unwrap();
    let bar = format!("70.0%  {}{}", "█".repeat(21), "░".repeat(9));
    let weights: Vec<String> =
        widths(&read_file(&dir.join("z.safetensors"))).into_iter().map(|(name, _)| name).collect();
    let pruned = weights.iter().filter(|name| !name.starts_with("bn") && !name.contains(".bn"));
    assert!(pruned.clone().count() >= 5, "{weights:?}");
    for name in pruned {
        assert!(drawn.contains(name.as_str()), "{name} in {drawn}");
        let line = told.lines().find(|line| line.contains(name.as_str())).unwrap();
        assert!(line.contains("70."), "{line}");
    }
    assert!(told.contains(&bar), "{told}");
    // Nothing is written where the network cannot be evaluated, and pipes are refused.
    for refused in ["prune - -o no.safetensors", "prune m.safetensors -o -"] {
        let refused = run_in(dir, &format!("{refused} --sparsity 0.5 --eval d.safetensors"));
        assert_code(&refused, 2, "a pipe");
        assert!(err(&refused).contains("--eval compares"), "{}", err(&refused));
    }
    assert!(!support::names_in(dir).iter().any(|name| name.starts_with(".dlopt-")), "nothing is left between");
}

#[test]
fn the_graph_is_explained_and_drawn() {
    let ground = ground();
    let dir = ground.path();
    let line = "prune m.safetensors --pattern channels --sparsity 0.5 --dry-run --explain --graph g.svg";
    let told = out(&ok_in(dir, line));
    for line in
        ["group conv1.weight: 12 channels -> ", "reads    block1.conv2.weight, axis 1", "scales   bn1.weight, axis 0"]
    {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(told.contains("group fc2.weight: 10 channels stay: it is what comes out of the network"), "{told}");
    assert!(told.contains("reads    fc1.weight, axis 1, 16 places each"), "{told}");
    let svg = fs::read_to_string(dir.join("g.svg")).unwrap();
    assert!(svg.contains("block1.conv2") && svg.contains("<circle"), "{svg}");
    let plan = json_out(&ok_in(dir, "prune m.safetensors --pattern neurons --sparsity 0.5 --dry-run --json"));
    assert_eq!(plan["structure"]["groups"].as_array().unwrap().len(), 5);
    assert!(!dir.join("out.safetensors").exists());
}

#[test]
fn channels_that_left_while_training_are_taken_out_and_nothing_changes() {
    let ground = ground();
    let dir = ground.path();
    let line =
        format!("{TRAIN} --init m.safetensors --epochs 3 --prune 0.5,channels,neurons,0..2 -o zeros.safetensors");
    let told = ok_in(dir, &line);
    assert!(err(&told).contains("channels leave while training, 50.0% of them in the end"), "{}", err(&told));
    ok_in(dir, "prune zeros.safetensors --pattern channels,neurons -o small.safetensors -q");
    let (before, after) = (read_file(&dir.join("zeros.safetensors")), read_file(&dir.join("small.safetensors")));
    let halved: Vec<(String, usize)> =
        widths(&before).into_iter().map(|(name, rows)| (name, if rows == 10 { 10 } else { rows - rows / 2 })).collect();
    assert_eq!(widths(&after).len(), halved.len());
    for ((name, rows), (_, wanted)) in widths(&after).iter().zip(&halved) {
        assert!(rows.abs_diff(*wanted) <= 1, "{name}: {rows} rows, {wanted} wanted");
    }
    let both = json_out(&ok_in(dir, "eval small.safetensors --against zeros.safetensors --data d.safetensors --json"));
    let loss = |which: &str| both[which]["metrics"]["classification"]["loss"]["value"].as_f64().unwrap();
    assert!((loss("model") - loss("against")).abs() < 1e-5, "{both}");
    // Masks are of the checkpoint: trained on, dead channels stay dead.
    ok_in(dir, &format!("{TRAIN} --init zeros.safetensors --epochs 1 -o on.safetensors -q"));
    ok_in(dir, "prune on.safetensors --pattern channels,neurons -o again.safetensors -q");
    assert_eq!(widths(&read_file(&dir.join("again.safetensors"))), widths(&after));
}

#[test]
fn what_is_asked_wrongly_is_one_clear_error() {
    let ground = ground();
    let dir = ground.path();
    for (line, code, part) in [
        ("--pattern channels", 1, "all channels matter"),
        ("--pattern layers", 2, "--pattern layers needs a sparsity"),
        ("--pattern channels --scope global", 2, "--scope needs a sparsity"),
        ("--pattern channels --target flops", 2, "--target needs a sparsity"),
        ("--pattern channels --criterion l1", 2, "--criterion needs a sparsity"),
        ("--pattern channels --sparsity 1.5", 2, "--sparsity is 1.5, and not in 0..=1"),
        ("--pattern channels --sparsity 1", 1, "100% of the parameters cannot leave"),
        ("--pattern channels,bones --sparsity 0.5", 2, "`bones` in pattern `channels,bones`"),
        ("--pattern hidden --sparsity 0.5", 1, "no hidden can leave: the network has no such layers"),
        ("--pattern channels --sparsity 0.5 --store bitmask", 2, "--store is about weights that become zero"),
        ("--pattern channels --sparsity 0.5 --tied both", 2, "--tied is about weights that become zero"),
        ("--pattern channels --sparsity 0.5 --seed 1", 2, "criterion `l2` draws nothing"),
        ("--pattern channels --sparsity 0.5 --criterion magnitude", 2, "no criterion of channels is named `magnitude`"),
        ("--pattern channels --sparsity 0.5 --criterion taylor", 2, "criterion `taylor` looks at data"),
        ("--pattern channels --sparsity 0.5 --data d.safetensors", 2, "criterion `l2` looks at weights alone"),
        ("--pattern channels --sparsity 0.5 --batches 3", 2, "--batches is about --data or --recover"),
        ("--pattern channels --sparsity 0.5 --exclude nothing.*", 1, "`nothing.*` matches no tensor"),
        (
            "--pattern channels --sparsity 0.03 --criterion scale --include block1.conv2.*",
            1,
            "criterion `scale` says nothing",
        ),
        ("--pattern layers --sparsity 0.5 --scope global", 2, "--scope means nothing"),
        ("--pattern layers --sparsity 0.5 --criterion apoz --data d.safetensors", 1, "says nothing of layers"),
        ("--pattern channels --sparsity 0.5 --graph m.safetensors", 2, "--graph m.safetensors: is read"),
        ("--sparsity 0.5 --target flops", 2, "--target is about channels or layers that leave"),
        ("--sparsity 0.5 --floor 0.5", 2, "--floor is about channels or layers that leave"),
        ("--sparsity 0.5 --graph g.svg --dry-run", 2, "--graph draws the zeros that are found"),
        ("--sparsity 0.5 --split test", 2, "--eval"),
        ("--sparsity 0.5 --eval none.safetensors", 1, "none.safetensors"),
        ("--sparsity 0.5 --eval d.safetensors --split none", 1, "none"),
        ("--sparsity 0.5 --data d.safetensors", 2, "--data is about channels or layers that leave"),
        ("--sparsity 0.5 --batches 3", 2, "--batches is about --data or --recover"),
        ("--sparsity 0.5 --criterion l2", 2, "no criterion is named `l2`"),
    ] {
        let refused = run_in(dir, &format!("prune m.safetensors -o no.safetensors {line}"));
        assert_code(&refused, code, line);
        assert!(err(&refused).contains(part), "{line}: {}", err(&refused));
        assert!(!dir.join("no.safetensors").exists(), "{line}");
    }
    let refused = run_in(dir, "prune m.safetensors --pattern channels --sparsity 0.5 --recover d.safetensors");
    assert_code(&refused, 2, "a pipe");
    let bare = run_in(
        dir,
        &format!("prune {} --pattern channels --sparsity 0.5", fixture("layers/dense.safetensors").display()),
    );
    assert_code(&bare, 1, "no config");
    assert!(err(&bare).contains("no config"), "{}", err(&bare));
}

#[test]
fn networks_of_others_are_pruned_too() {
    let dir = temp_dir();
    let silero = fixture("silero/silero_vad_16k.safetensors");
    let line = format!("prune {} --pattern channels,hidden --sparsity 0.4 -o small.safetensors", silero.display());
    ok_in(dir.path(), &line);
    let small = read_file(&dir.path().join("small.safetensors"));
    assert_eq!(config(&small)["model_type"], "sequential");
    ok_in(dir.path(), "inspect small.safetensors");
    ok_in(dir.path(), "prune small.safetensors --pattern channels --sparsity 0.1 -o less.safetensors -q");
}
