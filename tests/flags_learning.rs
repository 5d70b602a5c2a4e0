//! No flag of `train` and `eval` is accepted and then ignored: each has a test here in which turning it changes a
//! weight, a printed figure or an exit code, and a flag that `--help` shows without a test fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::*;

/// A network of a few weights: four numbers in, three classes or two numbers out.
const NET: &str = "layers = [\n    { type = \"flatten\" },\n    { type = \"dense\", units = 7, activation = \"relu\" },\n    { type = \"dense\", units = \"classes\" },\n]\n";

/// The same, wide enough for activations in eight bits.
const WIDE: &str = "layers = [\n    { type = \"flatten\" },\n    { type = \"dense\", units = 24, activation = \"relu\" },\n    { type = \"dense\", units = 16, activation = \"relu\" },\n    { type = \"dense\", units = \"classes\" },\n]\n";

/// A folder with small data and a network.
struct Ground(tempfile::TempDir);

impl Ground {
    /// `d.safetensors`: 41 rows of three classes to train on, 12 to watch, 13 to test. `plain.safetensors`: the same
    /// without statistics. `two.safetensors`: the same with two classes. `numbers.safetensors`: the same with two numbers
    /// to predict. `pictures.safetensors`: the same as pictures of 2 x 2 pixels. `net.toml`, and `m.safetensors`, which it
    /// became in two epochs.
    fn new() -> Self {
        let ground = Self(temp_dir());
        fs::write(ground.path("net.toml"), NET).unwrap();
        fs::write(ground.path("d.csv"), table(&["red", "green", "blue"])).unwrap();
        fs::write(ground.path("two.csv"), table(&["red", "green", "red"])).unwrap();
        let cut = "--split-at 41,53 -q";
        ground.ok(&format!("prepare d.csv {cut} --drop y,z -o d.safetensors"));
        ground.ok(&format!("prepare d.csv {cut} --drop y,z --standardise none -o plain.safetensors"));
        ground.ok(&format!("prepare two.csv {cut} --drop y,z -o two.safetensors"));
        ground.ok(&format!("prepare d.csv {cut} --drop class --targets y,z -o numbers.safetensors"));
        ground.ok(&format!("prepare d.csv {cut} --drop y,z --shape 2x2 -o pictures.safetensors"));
        ground.ok(&training("-q -o m.safetensors"));
        ground
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        run_in(self.0.path(), line)
    }

    fn ok(&self, line: &str) -> Output {
        ok_in(self.0.path(), line)
    }

    /// Refused with this code, for a reason that is told, and nothing is written.
    fn refused(&self, line: &str, code: i32, said: &str) {
        let before = files_below(self.0.path());
        let done = self.run(line);
        assert_code(&done, code, line);
        assert!(err(&done).contains(said), "{line}\nwanted {said}\n{}", err(&done));
        assert!(files_below(self.0.path()) == before, "{line} changed a file");
    }

    /// Trains with more flags.
    fn train(&self, more: &str) -> (Stored, Value) {
        let line = training(&format!("--json -o out.safetensors --force {more}"));
        let report = json_out(&self.ok(&line));
        (read_file(&self.path("out.safetensors")), report)
    }

    /// The trained tensors, without what the file says of the flags.
    fn weights(&self, more: &str) -> Weights {
        self.train(more).0.tensors.into_values().map(|t| (t.name, t.bytes)).collect()
    }

    /// What `eval` says.
    fn eval(&self, more: &str) -> Value {
        json_out(&self.ok(&format!("{EVAL} --json {more}")))
    }
}

type Weights = Vec<(String, Vec<u8>)>;

/// A training in which `more` replaces or adds flags.
fn training(more: &str) -> String {
    let mut line = "train".to_owned();
    // Tests run side by side: threads of their own would only wait for each other.
    let usual =
        [("--model", "net.toml"), ("--data", "d.safetensors"), ("--epochs", "2"), ("--batch", "8"), ("--threads", "1")];
    for (flag, value) in usual {
        if !more.split_whitespace().any(|word| word == flag) {
            let _ = write!(line, " {flag} {value}");
        }
    }
    line + " " + more
}

const EVAL: &str = "eval m.safetensors --data d.safetensors";

/// Points around the centres of the classes, which overlap, and two numbers that depend on them.
fn table(names: &[&str; 3]) -> String {
    let mut random = Random::new(5);
    let mut text = String::from("a,b,c,d,y,z,class\n");
    for row in 0..66 {
        // Classes of different sizes.
        let class = [0, 1, 0, 2, 1, 0][row % 6];
        let values: Vec<f32> = (0..4).map(|f| if f % 3 == class { 1.1 } else { -0.3 } + random.normal()).collect();
        let (y, z) = (values[0] - 2.0 * values[1], 3.0 * values[2] + random.normal());
        let values: Vec<String> = values.iter().chain([&y, &z]).map(f32::to_string).collect();
        let _ = writeln!(text, "{},{}", values.join(","), names[class]);
    }
    text
}

fn epochs(report: &Value) -> &Vec<Value> {
    report["epochs"].as_array().unwrap()
}

/// Every value of the last argument must give other weights than every other.
fn assert_each_differs(g: &Ground, lines: &[&str]) {
    let all: Vec<Weights> = lines.iter().map(|line| g.weights(line)).collect();
    for (i, a) in all.iter().enumerate() {
        for (b, line) in all[i + 1..].iter().zip(&lines[i + 1..]) {
            assert!(a != b, "`{}` and `{line}` give the same weights", lines[i]);
        }
    }
}

/// A flag, and the test that turns it.
type Case = (&'static str, fn(&Ground));

/// What a network is trained on, and where it begins and ends.
const TRAIN_FILES: [Case; 16] = [
    ("model", |g| {
        let names = |model: &str| g.train(&format!("--model {model}")).0.names;
        assert_eq!(names("net.toml").len(), 4);
        assert_eq!(names("mlp").len(), 6);
        // A checkpoint is trained further.
        assert!(g.weights("--model m.safetensors --epochs 0") == g.weights(""));
        g.refused(&training("--model nlp -o x.safetensors"), 2, "did you mean `mlp`");
    }),
    ("data", |g| {
        assert_each_differs(g, &["--data d.safetensors", "--data plain.safetensors"]);
        g.refused(&training("--data nothing -o x.safetensors"), 1, "nothing");
    }),
    ("output", |g| {
        let bytes = fs::read(g.path("m.safetensors")).unwrap();
        assert!(g.ok(&training("-q")).stdout == bytes && g.ok(&training("-q -o -")).stdout == bytes);
        let done = g.ok(&training("--output x.safetensors"));
        assert!(done.stdout.is_empty() && fs::read(g.path("x.safetensors")).unwrap() == bytes);
        g.ok(&training("-o folder/ -q"));
        assert_same_tensors(&read_folder(&g.path("folder")), &parse(&bytes));
        assert!(g.path("folder/config.json").exists());
    }),
    ("force", |g| {
        g.refused(&training("-o m.safetensors"), 1, "--force");
        g.ok(&training("-o m.safetensors --epochs 1 --force"));
        assert!(g.weights("") != g.weights("--model m.safetensors --epochs 0"));
    }),
    ("init", |g| {
        let begun = g.weights("--model net.toml --init m.safetensors --epochs 0");
        assert!(begun == g.weights("") && begun != g.weights("--epochs 0"));
    }),
    ("adopt", |g| {
        let line = "train --init m.safetensors --data two.safetensors --epochs 0 -q -o x.safetensors";
        g.refused(line, 1, "--adopt");
        g.ok(&format!("{line} --adopt"));
        let (before, after) = (read_file(&g.path("m.safetensors")), read_file(&g.path("x.safetensors")));
        let first = &before.names[0];
        assert_eq!(before.get(first), after.get(first));
        assert!(
            before.tensors.values().any(|t| t.shape == [3, 7]) && after.tensors.values().any(|t| t.shape == [2, 7])
        );
    }),
    ("initialization", |g| {
        assert_each_differs(g, &["--epochs 0 --initialization glorot", "--epochs 0 --initialization he"]);
        assert!(g.weights("--epochs 0 --initialization glorot") == g.weights("--epochs 0"));
    }),
    ("freeze", |g| {
        let (first, trained) = (g.weights("--epochs 0"), g.weights("--freeze fc1.*"));
        for ((name, before), (_, after)) in first.iter().zip(&trained) {
            assert_eq!(before == after, name.starts_with("fc1."), "{name}");
        }
        g.refused(&training("--freeze conv* -o x.safetensors"), 2, "conv*");
    }),
    ("use-own-preprocessing", |g| {
        let line = "train --init m.safetensors --data plain.safetensors --epochs 1 -q -o x.safetensors";
        g.refused(line, 1, "--use-own-preprocessing");
        g.ok(&format!("{line} --use-own-preprocessing"));
        let other = g.weights("--model m.safetensors --epochs 1 --batch 32");
        let trained: Weights =
            read_file(&g.path("x.safetensors")).tensors.into_values().map(|t| (t.name, t.bytes)).collect();
        assert!(trained == other, "the raw elements become the same numbers");
    }),
    ("split", |g| {
        assert_eq!(g.train("").1["training_samples"], 41);
        assert_eq!(g.train("--split test").1["training_samples"], 13);
        assert_each_differs(g, &["", "--split test"]);
        g.refused(&training("--split tset -o x.safetensors"), 1, "did you mean `test`");
    }),
    ("validation", |g| {
        let loss = |more: &str| epochs(&g.train(more).1)[0]["validation_loss"].as_f64();
        assert!(loss("").is_some() && loss("") == loss("--validation validation"));
        assert!(loss("--validation none").is_none() && loss("--validation test") != loss(""));
    }),
    ("checkpoints", |g| {
        g.train("");
        assert!(!g.path("kept").exists());
        g.train("--epochs 3 --checkpoints kept");
        assert_eq!(
            names_in(&g.path("kept")),
            ["best.safetensors", "epoch-0001.safetensors", "epoch-0002.safetensors", "epoch-0003.safetensors"]
        );
        assert_same_tensors(&read_file(&g.path("kept/epoch-0002.safetensors")), &read_file(&g.path("m.safetensors")));
        g.refused(&training("--init kept/best.safetensors --checkpoints kept -o x.safetensors"), 2, "is read");
    }),
    ("keep-last", |g| {
        g.train("--epochs 5 --checkpoints kept");
        assert_eq!(names_in(&g.path("kept")).len(), 4, "three and the best");
        g.train("--epochs 5 --checkpoints two --keep-last 2");
        assert_eq!(names_in(&g.path("two")), ["best.safetensors", "epoch-0004.safetensors", "epoch-0005.safetensors"]);
    }),
    ("resume", |g| {
        // Long enough to be killed in its midst, and saved often enough to have got somewhere by then.
        let line = training("--epochs 8000 --save-every 500 -q -o");
        g.ok(&format!("{line} whole.safetensors"));
        let line = format!("{line} killed.safetensors");
        let mut child = Command::new(DLOPT)
            .args(line.split_whitespace())
            .current_dir(g.0.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let state = g.path("killed.safetensors.dlopt-training/state.safetensors");
        while !state.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended without a state");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        g.refused(&line, 1, "--resume");
        g.ok(&format!("{line} --resume"));
        assert!(fs::read(g.path("whole.safetensors")).unwrap() == fs::read(g.path("killed.safetensors")).unwrap());
        g.refused(&training("--resume"), 2, "-o OUT");
    }),
    ("save-every", |g| {
        // A loss that is no number ends the run and leaves the last state.
        let line = training("--optimizer sgd --learning-rate 1e30 -q -o");
        assert_code(&g.run(&format!("{line} seldom.safetensors")), 1, "no number");
        assert!(!g.path("seldom.safetensors.dlopt-training/state.safetensors").exists());
        assert_code(&g.run(&format!("{line} often.safetensors --save-every 1")), 1, "no number");
        assert!(g.path("often.safetensors.dlopt-training/state.safetensors").exists());
        g.refused(&training("--save-every 0 -o x.safetensors"), 2, "--save-every");
    }),
    ("dry-run", |g| {
        let before = files_below(g.0.path());
        let text = out(&g.ok(&training("-o x.safetensors --dry-run")));
        // 4 * 7 + 7 and 7 * 3 + 3 weights.
        assert!(text.contains("59 parameters") && text.contains("fc1"), "{text}");
        assert!(files_below(g.0.path()) == before);
    }),
];

/// How a network is trained.
const TRAIN_SETTINGS: [Case; 41] = [
    ("augment", |g| {
        fs::write(g.path("r.toml"), "[[ops]]\nop = \"noise\"\nsigma = 0.1\n").unwrap();
        assert!(g.weights("--augment r.toml") == g.weights("--augment-op noise=0.1"));
        fs::write(g.path("bad.toml"), "[[ops]]\nop = \"nois\"\n").unwrap();
        g.refused(&training("--augment bad.toml -o x.safetensors"), 2, "did you mean `noise`");
        g.refused(&training("--augment none.toml -o x.safetensors"), 1, "none.toml");
    }),
    ("augment-op", |g| {
        assert_each_differs(g, &["", "--augment-op noise=0.1", "--augment-op noise=0.2", "--augment-op noise,p=0.5"]);
        assert!(g.weights("--augment-op noise=0") == g.weights(""));
        g.refused(&training("--augment-op rotate -o x.safetensors"), 2, "`rotate` is for pictures");
    }),
    ("augment-seed", |g| {
        let noise = "--augment-op noise=0.1";
        assert_each_differs(g, &[noise, &format!("{noise} --augment-seed 1"), &format!("{noise} --augment-seed 2")]);
        assert!(g.weights(&format!("{noise} --augment-seed 0")) == g.weights(noise));
    }),
    ("augment-views", |g| {
        let noise = "--augment-op noise=0.1";
        assert_each_differs(g, &[noise, &format!("{noise} --augment-views 1")]);
        assert!(g.weights(&format!("{noise} --augment-views 2")) == g.weights(noise), "two epochs are two views");
        g.refused(&training("--augment-op noise=0.1 --augment-views 0 -o x.safetensors"), 2, "--augment-views");
    }),
    ("without-class", |g| {
        assert_each_differs(g, &["", "--without-class blue"]);
        let report = g.train("--without-class red --without-class blue").1;
        assert!(report["training_samples"].as_u64().unwrap() < 20, "{report}");
        g.refused(&training("--without-class violet -o x.safetensors"), 2, "blue, green, red");
    }),
    ("epochs", |g| {
        for count in [0, 1, 4] {
            let report = g.train(&format!("--epochs {count}")).1;
            assert_eq!((epochs(&report).len(), report["updates"].as_u64()), (count, Some(6 * count as u64)));
        }
        assert_each_differs(g, &["--epochs 1", "--epochs 2", "--epochs 4"]);
    }),
    ("batch", |g| {
        assert_eq!(g.train("--batch 5").1["updates"], 18);
        assert_each_differs(g, &["--batch 5", "--batch 8", "--batch 41"]);
        g.refused(&training("--batch 0 -o x.safetensors"), 2, "--batch");
    }),
    ("accumulate", |g| {
        let (stored, report) = g.train("--batch 8 --accumulate 3");
        assert_eq!(report["updates"], 4);
        // Batches that are added up are one batch but for rounding.
        let together = g.train("--batch 24").0;
        for (name, tensor) in &stored.tensors {
            for (a, b) in tensor.values().iter().zip(together.get(name).values()) {
                assert!((a - b).abs() < 1e-5, "{name}: {a} and {b}");
            }
        }
        g.refused(&training("--accumulate 0 -o x.safetensors"), 2, "--accumulate");
    }),
    ("optimizer", |g| {
        assert_each_differs(
            g,
            &["sgd", "adam", "adamw", "rmsprop"].map(|o| format!("--optimizer {o}")).each_ref().map(String::as_str),
        );
        assert!(g.weights("--optimizer adam") == g.weights(""));
    }),
    ("learning-rate", |g| {
        assert!(g.weights("--learning-rate 0") == g.weights("--epochs 0"));
        assert_each_differs(g, &["", "--learning-rate 0.01"]);
        assert!(g.weights("--lr 0.01") == g.weights("--learning-rate 0.01"));
        assert!(g.weights("--lr 0.01 --optimizer sgd") == g.weights("--optimizer sgd"));
    }),
    ("weight-decay", |g| {
        let size = |more: &str| {
            let stored = g.train(more).0;
            stored.tensors.values().flat_map(Tensor::values).map(|v| v * v).sum::<f32>()
        };
        assert!(size("--optimizer sgd --weight-decay 3") < 0.7 * size("--optimizer sgd"));
        assert!(g.weights("--optimizer adamw") == g.weights("--optimizer adamw --weight-decay 0.004"));
        g.refused(&training("--weight-decay=-1 -o x.safetensors"), 2, "weight-decay");
    }),
    ("decay-all", |g| {
        // After one update from biases of 0 there is something to decay.
        assert_each_differs(g, &["--weight-decay 0.5", "--weight-decay 0.5 --decay-all"]);
        assert!(g.weights("--decay-all") == g.weights(""), "nothing decays");
    }),
    ("momentum", |g| {
        assert_each_differs(
            g,
            &["--optimizer sgd", "--optimizer sgd --momentum 0.9", "--optimizer sgd --momentum 0.5"],
        );
        assert_each_differs(g, &["--optimizer rmsprop", "--optimizer rmsprop --momentum 0.9"]);
        g.refused(&training("--momentum 0.9 -o x.safetensors"), 2, "--momentum does not go with");
    }),
    ("nesterov", |g| {
        let sgd = "--optimizer sgd --momentum 0.9";
        assert_each_differs(g, &[sgd, &format!("{sgd} --nesterov")]);
        g.refused(&training("--optimizer sgd --nesterov -o x.safetensors"), 2, "--momentum");
    }),
    ("beta1", |g| assert_each_differs(g, &["", "--beta1 0.5"])),
    ("beta2", |g| assert_each_differs(g, &["", "--beta2 0.9"])),
    ("rho", |g| assert_each_differs(g, &["--optimizer rmsprop", "--optimizer rmsprop --rho 0.5"])),
    ("epsilon", |g| {
        assert_each_differs(g, &["", "--epsilon 0.1"]);
        assert!(g.weights("--epsilon 1e-7") == g.weights(""));
    }),
    ("schedule", |g| {
        let last = |schedule: &str| {
            let report = g.train(&format!("--epochs 4 --learning-rate 0.01 --schedule {schedule}")).1;
            epochs(&report)[3]["learning_rate"].as_f64().unwrap()
        };
        let close = |schedule: &str, wanted: f64| {
            let found = last(schedule);
            assert!((found - wanted).abs() <= 1e-9 * wanted.max(1e-3), "{schedule}: {found}, not {wanted}");
        };
        close("constant", 0.01);
        close("step=2,0.1", 0.001);
        // The last of 24 updates.
        close("cosine", 0.01 * (1.0 + (std::f64::consts::PI * 23.0 / 24.0).cos()) / 2.0);
        close("linear=0.5", 0.01 * (1.0 - 0.5 * 23.0 / 24.0));
        close("one-cycle", 0.01 / 250_000.0);
        assert!(last("plateau=0.1,0") <= 0.01);
        g.refused(&training("--schedule cosin -o x.safetensors"), 2, "cosine");
    }),
    ("warmup", |g| {
        let rate = |more: &str| epochs(&g.train(&format!("--epochs 1 {more}")).1)[0]["learning_rate"].as_f64().unwrap();
        assert_eq!((rate(""), rate("--warmup 12"), rate("--warmup 6")), (0.001, 0.0005, 0.001));
        assert_each_differs(g, &["", "--warmup 6"]);
    }),
    ("loss", |g| {
        let numbers = "--data numbers.safetensors";
        assert_each_differs(g, &[numbers, &format!("{numbers} --loss huber=0.2"), &format!("{numbers} --loss huber")]);
        assert!(g.weights(&format!("{numbers} --loss mse")) == g.weights(numbers));
        g.refused(&training("--loss mse -o x.safetensors"), 2, "needs targets");
    }),
    ("label-smoothing", |g| {
        assert_each_differs(g, &["", "--label-smoothing 0.1"]);
        g.refused(&training("--label-smoothing 1 -o x.safetensors"), 2, "--label-smoothing");
    }),
    ("scheduled-sampling", |g| {
        g.refused(&training("--scheduled-sampling 0.5 -o x.safetensors"), 2, "has no decoder");
        g.refused(&training("--scheduled-sampling 2 -o x.safetensors"), 2, "SHARE,RAMP");
    }),
    ("class-weights", |g| {
        assert_each_differs(g, &["", "--class-weights 1,2,5", "--class-weights balanced"]);
        assert!(g.weights("--class-weights 1,1,1") == g.weights(""));
        g.refused(&training("--class-weights 1,2 -o x.safetensors"), 2, "2 numbers for 3 classes");
    }),
    ("clip-norm", |g| {
        assert_each_differs(g, &["--optimizer sgd", "--optimizer sgd --clip-norm 0.01"]);
        assert!(g.weights("--clip-norm 1e9") == g.weights(""));
        g.refused(&training("--clip-norm 0 -o x.safetensors"), 2, "--clip-norm");
    }),
    ("clip-value", |g| {
        assert_each_differs(g, &["--optimizer sgd", "--optimizer sgd --clip-value 0.001"]);
        assert!(g.weights("--clip-value 1e9") == g.weights(""));
        g.refused(&training("--clip-value 0 -o x.safetensors"), 2, "--clip-value");
    }),
    ("average", |g| {
        assert_each_differs(g, &["", "--average 0.9", "--average 0.5"]);
        assert!(g.weights("--average 0") == g.weights(""));
        g.refused(&training("--average 1 -o x.safetensors"), 2, "--average");
    }),
    ("patience", |g| {
        // At a rate of 0 no epoch is better than the first.
        let report = g.train("--epochs 9 --learning-rate 0 --patience 2").1;
        assert_eq!((epochs(&report).len(), &report["stopped_early"], &report["epoch"]), (3, &true.into(), &1.into()));
        assert_eq!(g.train("--epochs 9 --learning-rate 0").1["stopped_early"], false);
        g.refused(&training("--patience 2 --validation none -o x.safetensors"), 2, "validation");
    }),
    ("zeros", |g| {
        g.ok("prune m.safetensors --sparsity 0.6 -o pruned.safetensors -q");
        let zeros = |more: &str| g.train(&format!("--model pruned.safetensors {more}")).0.get("fc1.weight").zeros();
        assert_eq!((zeros(""), zeros("--zeros keep")), (17, 17));
        assert!(zeros("--zeros free") < 10, "but for units that say nothing");
        let sparsity = |more: &str| g.train(more).1["kept_sparsity"].as_f64();
        // 17 of 28 and 13 of 21 weights.
        assert_eq!((sparsity("--model pruned.safetensors"), sparsity("")), (Some(30.0 / 49.0), None));
        g.refused(&training("--zeros some -o x.safetensors"), 2, "keep, free");
    }),
    ("prune", |g| {
        let sparsity = |more: &str| g.train(more).1["kept_sparsity"].as_f64();
        assert_eq!((sparsity("--prune 0.5"), sparsity("--prune 0.5,tensor")), (Some(25.0 / 49.0), Some(25.0 / 49.0)));
        assert_each_differs(g, &["--prune 0.5", "--prune 0.5,linear", "--prune 0.5,once", "--prune 0.5,1..2"]);
        g.refused(&training("--prune 0.5,2..1 -o x.safetensors"), 2, "ends before it begins");
        let frozen = |more: &str| g.train(&format!("--model m.safetensors {more}")).0.get("fc1.weight").zeros();
        assert!(frozen("--prune 0.9") > 0 && frozen("--prune 0.9 --freeze fc1.*") == 0);
        assert_each_differs(g, &["--prune 0.5", "--prune 2:4", "--prune 0.5,2x1", "--prune 0.5,2x1,tensor"]);
        let fc1 = g.train("--prune 2:4,0..1").0.get("fc1.weight").values();
        assert!(fc1.chunks(4).all(|group| group.iter().filter(|v| **v != 0.0).count() <= 2), "{fc1:?}");
        let report = g.train("--prune 0.5,neurons,0..1").0.get("fc1.weight").values();
        let dead = report.chunks(4).filter(|row| row.iter().all(|v| *v == 0.0)).count();
        assert_eq!(dead, 3, "{report:?}");
        g.refused(&training("--prune 2:4,0.7 -o x.safetensors"), 2, "2:4 is a sparsity of 0.5");
        g.refused(&training("--prune 0.5,channels -o x.safetensors"), 1, "no channels of this network can leave");
        g.refused(&training("--prune soon -o x.safetensors"), 2, "no part of a pruning schedule");
    }),
    ("zeros-of", |g| {
        g.ok("prune m.safetensors --sparsity 0.6 -o pruned.safetensors -q");
        let places = |weights: &Weights| -> Vec<bool> {
            let (_, bytes) = weights.iter().find(|(name, _)| name == "fc1.weight").unwrap();
            bytes.as_chunks::<4>().0.iter().map(|w| f32::from_le_bytes(*w) == 0.0).collect()
        };
        let pruned: Weights =
            read_file(&g.path("pruned.safetensors")).tensors.into_values().map(|t| (t.name, t.bytes)).collect();
        let ticket = g.weights("--zeros-of pruned.safetensors");
        assert_eq!(places(&ticket), places(&pruned), "fresh weights with the zeros of another network");
        assert!(places(&ticket) != places(&g.weights("")));
        g.refused(&training("--zeros-of m.safetensors -o x.safetensors"), 1, "none of its weights is 0");
        g.refused(&training("--zeros-of nothing.safetensors -o x.safetensors"), 1, "nothing.safetensors");
    }),
    ("fake-quantize", |g| {
        let names = |more: &str| g.train(more).0.names;
        assert!(names("--fake-quantize w8a16:channel").iter().any(|name| name == "fc1.weight_packed"));
        assert!(!names("").iter().any(|name| name == "fc1.weight_packed"));
        assert_each_differs(g, &["--fake-quantize w8a16:channel", "--fake-quantize w8a16_asym:channel"]);
        g.refused(&training("--fake-quantize w5 -o x.safetensors"), 2, "no scheme");
        g.refused(&training("--fake-quantize w4a16 -o x.safetensors"), 1, "--group channel");
    }),
    ("share-weights", |g| {
        let parts = |more: &str| g.train(more).0;
        assert_eq!(parts("--share-weights codebook2").get("fc1.weight_codebook").shape, [4]);
        assert_each_differs(
            g,
            &["", "--share-weights codebook2", "--share-weights codebook3", "--share-weights codebook2:channel"],
        );
        g.refused(&training("--share-weights w8a16:channel -o x.safetensors"), 2, "gets no codebook");
        g.refused(&training("--share-weights codebook --zeros keep -o x.safetensors"), 2, "--zeros");
    }),
    ("group", |g| {
        let with = |size: &str| format!("--fake-quantize w8a16 --group {size}");
        assert_each_differs(g, &[&with("channel"), &with("tensor"), &with("4"), &with("2")]);
        assert!(g.weights(&with("2")) == g.weights("--fake-quantize w8a16:2"));
        g.refused(&training("--group 4 -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("method", |g| {
        let with = |method: &str| format!("--fake-quantize w4a16:channel --method {method}");
        assert_each_differs(g, &[&with("rtn"), &with("absmax"), &with("mse")]);
        assert!(g.weights(&with("rtn")) == g.weights("--fake-quantize w4a16:channel"));
        g.refused(&training(&format!("{} -o x.safetensors", with("best"))), 2, "rtn or");
        g.refused(&training("--method mse -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("rule", |g| {
        let names = |more: &str| g.train(&format!("--fake-quantize w8a16:channel {more}")).0.names;
        let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
        assert!(has(&names(""), "fc2.weight_packed") && has(&names("--rule fc2.*=skip"), "fc2.weight"));
        g.refused(&training("--rule fc2.*=skip -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("fallback", |g| {
        let names = |more: &str| g.train(&format!("--fake-quantize w8a16:4 {more}")).0.names;
        let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
        assert!(has(&names(""), "fc2.weight") && has(&names("--fallback skip"), "fc2.weight"));
        assert!(has(&names("--fallback channel"), "fc2.weight_packed"));
        g.refused(&training("--fallback channel -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("keep-best", |g| {
        let wild = "--epochs 9 --learning-rate 0.3 --batch 3";
        let (last, best) = (g.train(wild), g.train(&format!("{wild} --keep-best")));
        let losses: Vec<f64> = epochs(&best.1).iter().map(|e| e["validation_loss"].as_f64().unwrap()).collect();
        let lowest = losses.iter().position(|l| *l == losses.iter().copied().fold(f64::INFINITY, f64::min)).unwrap();
        assert_eq!((&last.1["epoch"], &best.1["epoch"]), (&9.into(), &(lowest + 1).into()), "{losses:?}");
        assert!(lowest < 8 && last.0.tensors != best.0.tensors, "{losses:?}");
    }),
    ("seed", |g| {
        assert_each_differs(g, &["--seed 1", "--seed 2"]);
        assert!(g.weights("--seed 0") == g.weights(""));
    }),
    ("device", |g| {
        // A second implementation: near, and its own.
        let (own, other) = (g.train("").0, g.train("--device candle").0);
        for (name, tensor) in &own.tensors {
            for (a, b) in tensor.values().iter().zip(other.get(name).values()) {
                assert!((a - b).abs() < 1e-4, "{name}: {a} and {b}");
            }
        }
        g.refused(&training("--device abacus -o x.safetensors"), 2, "abacus");
    }),
    ("threads", |g| {
        for threads in ["1", "3"] {
            let told = err(&g.ok(&training(&format!("--threads {threads} -o x.safetensors --force"))));
            assert!(told.contains(&format!("{threads} threads")), "{told}");
            assert!(fs::read(g.path("x.safetensors")).unwrap() == fs::read(g.path("m.safetensors")).unwrap());
        }
        g.refused(&training("--threads 0 -o y.safetensors"), 2, "--threads");
    }),
];

/// What is told about it.
const TRAIN_REPORTS: [Case; 6] = [
    ("log", |g| {
        g.train("--epochs 3 --log log.jsonl");
        let text = fs::read_to_string(g.path("log.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.iter().map(|l| l["epoch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        g.refused(&training("--log d.safetensors -o x.safetensors"), 2, "is read");
    }),
    ("curves", |g| {
        g.train("--curves curves.svg");
        assert!(fs::read_to_string(g.path("curves.svg")).unwrap().starts_with("<svg"));
        g.refused(&training("--curves nowhere/curves.svg -o x.safetensors"), 1, "nowhere");
        g.refused(&training("--curves x.safetensors -o x.safetensors"), 2, "--output writes");
    }),
    ("json", |g| {
        let report = g.train("").1;
        assert_eq!((&report["parameters"], &report["output"]), (&59.into(), &"out.safetensors".into()));
        let piped = g.ok(&training("--json"));
        assert!(piped.stdout == fs::read(g.path("m.safetensors")).unwrap());
        assert!(err(&piped).contains("\"training_samples\": 41"), "{}", err(&piped));
    }),
    ("report", |g| {
        let printed = g.train("--report report.json").1;
        assert_eq!(read_json(&g.path("report.json")), printed);
    }),
    ("quiet", |g| {
        let told = g.ok(&training("-o x.safetensors"));
        assert!(err(&told).contains("epoch 2/2") && told.stdout.is_empty(), "{}", err(&told));
        for flag in ["-q", "--quiet"] {
            let quiet = g.ok(&training(&format!("-o x.safetensors --force {flag}")));
            assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}", err(&quiet));
        }
    }),
    ("verbose", |g| {
        let told = |more: &str| err(&g.ok(&training(&format!("-o x.safetensors --force {more}"))));
        assert!(!told("").contains("fc2.bias"));
        let (short, long) = (told("-v"), told("--verbose --freeze fc2.*"));
        let line = |text: &str| text.lines().find(|l| l.contains("fc2.weight")).unwrap_or_default().to_owned();
        assert!(line(&short).contains("[3, 7]") && !line(&short).ends_with(" 0.00%"), "{short}");
        assert!(line(&long).ends_with(" 0.00%"), "{long}");
    }),
];

const EVAL_FLAGS: [Case; 32] = [
    ("data", |g| {
        assert_eq!(g.eval("")["data"], "d.safetensors");
        g.refused("eval m.safetensors --data two.safetensors", 1, "two.safetensors");
        g.refused("eval m.safetensors --data nothing", 1, "nothing");
    }),
    ("against", |g| {
        g.train("--epochs 30");
        let report = g.eval("--against out.safetensors");
        assert_eq!(report["against"]["name"], "out.safetensors");
        assert!(report["paired"]["classification"]["accuracy"]["p_value"].is_number(), "{report}");
        assert!(g.eval("").get("paired").is_none());
    }),
    ("split", |g| {
        for (split, samples) in [("train", 41), ("validation", 12), ("test", 13), ("all", 66)] {
            let report = g.eval(&format!("--split {split}"));
            assert_eq!((&report["samples"], &report["split"]), (&samples.into(), &split.into()));
        }
        assert_eq!(g.eval("")["split"], "test");
        g.refused(&format!("{EVAL} --split tset"), 1, "did you mean `test`");
    }),
    ("batch", |g| {
        let (one, many) = (g.eval("--batch 1"), g.eval("--batch 5"));
        assert_eq!((&one["batch"], &many["batch"]), (&1.into(), &5.into()));
        assert_eq!(one["model"]["metrics"], many["model"]["metrics"]);
        g.refused(&format!("{EVAL} --batch 0"), 2, "--batch");
    }),
    ("repeat", |g| {
        let speeds = |more: &str| g.eval(more)["model"]["samples_per_second_of_runs"].as_array().unwrap().len();
        assert_eq!((speeds(""), speeds("--repeat 4")), (1, 4));
        assert!(out(&g.ok(&format!("{EVAL} --repeat 4"))).contains("in 4 runs"));
        g.refused(&format!("{EVAL} --repeat 0"), 2, "--repeat");
    }),
    ("resamples", |g| {
        let loss = |more: &str| g.eval(more)["model"]["metrics"]["classification"]["loss"].clone();
        g.refused(&format!("{EVAL} --resamples 11"), 2, "at least 100");
        let (few, many) = (loss("--resamples 101"), loss(""));
        assert!(few["value"] == many["value"] && few["interval"] != many["interval"], "{few} {many}");
    }),
    ("seed", |g| {
        let loss = |more: &str| g.eval(more)["model"]["metrics"]["classification"]["loss"]["interval"].clone();
        assert!(loss("--seed 1") != loss("--seed 2") && loss("--seed 0") == loss(""));
    }),
    ("tta", |g| {
        let loss = |copies: u32| {
            let report = g.eval(&format!("--tta {copies} --augment-op noise=0.5"));
            report["model"]["metrics"]["classification"]["loss"]["value"].clone()
        };
        assert!(loss(1) != loss(2));
        g.refused(&format!("{EVAL} --tta 0"), 2, "--tta");
    }),
    ("augment", |g| {
        fs::write(g.path("r.toml"), "[[ops]]\nop = \"noise=0.25\"\n").unwrap();
        assert_eq!(g.eval("--tta 1 --augment r.toml")["model"]["tta"]["recipe"][0]["sigma"], 0.25);
        g.refused(&format!("{EVAL} --augment r.toml"), 2, "--tta");
    }),
    ("augment-op", |g| {
        assert_eq!(g.eval("--tta 1 --augment-op noise=0.5")["model"]["tta"]["recipe"][0]["sigma"], 0.5);
        g.refused(&format!("{EVAL} --tta 1"), 2, "--augment-op");
    }),
    ("corrupt", |g| {
        pictures(g, "");
        let report = json_out(&g.ok("eval seen.safetensors --data pictures.safetensors --corrupt --json"));
        assert_eq!(report["model"]["corruption"]["corruptions"].as_array().unwrap().len(), 5);
        g.refused(&format!("{EVAL} --corrupt"), 2, "pictures");
    }),
    ("plot", |g| {
        pictures(g, "--corrupt --plot r.svg");
        assert!(fs::read_to_string(g.path("r.svg")).unwrap().starts_with("<svg"));
        g.refused(&format!("{EVAL} --plot x.svg"), 2, "--corrupt");
    }),
    ("predictions", |g| {
        g.eval("--predictions p.safetensors");
        let stored = read_file(&g.path("p.safetensors"));
        assert_eq!(stored.get("outputs").shape, [13, 3]);
        assert_eq!((stored.get("labels").elements(), stored.get("predicted").elements()), (13, 13));
    }),
    ("confusion", |g| {
        g.eval("--confusion c.svg");
        let text = fs::read_to_string(g.path("c.svg")).unwrap();
        assert!(text.starts_with("<svg") && text.contains("green"), "{text}");
    }),
    ("reliability", |g| {
        g.eval("--reliability r.svg");
        assert!(fs::read_to_string(g.path("r.svg")).unwrap().starts_with("<svg"));
    }),
    ("mistakes", |g| {
        pictures(g, "--mistakes worst.png");
        assert!(fs::read(g.path("worst.png")).unwrap().starts_with(b"\x89PNG"));
        g.refused(&format!("{EVAL} --mistakes x.png"), 2, "pictures");
    }),
    ("mistakes-shown", |g| {
        pictures(g, "--mistakes many.png");
        pictures(g, "--mistakes one.png --mistakes-shown 1");
        assert!(fs::read(g.path("many.png")).unwrap() != fs::read(g.path("one.png")).unwrap());
        g.refused(&format!("{EVAL} --mistakes-shown 1"), 2, "--mistakes");
    }),
    ("min-accuracy", |g| {
        g.ok(&format!("{EVAL} --min-accuracy 0"));
        let low = g.run(&format!("{EVAL} --min-accuracy 1"));
        assert_code(&low, 3, "not all are right");
        assert!(out(&low).contains("accuracy"));
    }),
    ("beam", |g| {
        let found = |more: &str| spelled(g, more)["token_error_rate"].clone();
        assert!(found("--beam 5") != found("") && found("--beam 1") == found(""));
        g.refused(&format!("{EVAL} --beam 2"), 2, "sequences");
        g.refused(&format!("{EVAL} --beam 0"), 2, "--beam");
    }),
    ("length-penalty", |g| {
        let found = |more: &str| spelled(g, more)["bleu"].clone();
        assert!(found("--beam 5 --length-penalty 30") != found("--beam 5"));
        g.refused(&format!("{EVAL} --length-penalty 1"), 2, "sequences");
    }),
    ("no-carry", |g| {
        texts::windows(&g.path("text.safetensors"), &b"so it goes, and so it went. ".repeat(9), 6, 20);
        g.ok("train --model charlstm --data text.safetensors --epochs 1 -q -o text-m.safetensors");
        let loss = |more: &str| {
            let line = format!("eval text-m.safetensors --data text.safetensors --json {more}");
            json_out(&g.ok(&line))["model"]["metrics"]["tokens"]["loss"]["value"].as_f64()
        };
        assert!(loss("") != loss("--no-carry"));
        g.refused(&format!("{EVAL} --no-carry"), 2, "next token");
    }),
    ("use-own-preprocessing", |g| {
        g.refused("eval m.safetensors --data plain.safetensors", 1, "--use-own-preprocessing");
        let other = json_out(&g.ok("eval m.safetensors --data plain.safetensors --use-own-preprocessing --json"));
        assert_eq!(other["model"]["metrics"], g.eval("")["model"]["metrics"]);
    }),
    ("device", |g| {
        let loss = |more: &str| g.eval(more)["model"]["metrics"]["classification"]["loss"]["value"].as_f64().unwrap();
        assert!((loss("--device candle") - loss("")).abs() < 1e-4);
        g.refused(&format!("{EVAL} --device abacus"), 2, "abacus");
    }),
    ("kernels", |g| {
        let run = |more: &str| json_out(&g.ok(&format!("eval {} --data d.safetensors --json {more}", in_bytes(g))));
        let (dense, small) = (run("--kernels dense"), run("--kernels compressed"));
        assert_eq!(dense["model"]["metrics"], small["model"]["metrics"]);
        let memory = |report: &Value| report["model"]["memory_bytes"].as_u64().unwrap();
        assert!(memory(&small) <= memory(&dense), "{small}");
        let told = g.ok(&format!("eval {} --data d.safetensors --kernels explain", in_bytes(g)));
        assert!(err(&told).contains("fc1") && err(&told).contains("weights in memory"), "{}", err(&told));
        g.refused(&format!("{EVAL} --kernels abacus"), 2, "--kernels");
        g.refused(&format!("{EVAL} --kernels dense --device candle"), 2, "for the CPU");
    }),
    ("activations", |g| {
        fs::write(g.path("wide.toml"), WIDE).unwrap();
        g.ok("train --model wide.toml --data d.safetensors --epochs 2 -q -o wide.safetensors");
        g.ok("quantize wide.safetensors --scheme w8a16 --group channel --include fc*.weight -o wide8.safetensors -q");
        let loss = |more: &str| {
            let line = format!("eval wide8.safetensors --data d.safetensors --json {more}");
            json_out(&g.ok(&line))["model"]["metrics"]["classification"]["loss"]["value"].as_f64().unwrap()
        };
        let (float, int8) = (loss("--activations float"), loss("--activations int8"));
        assert!(float == loss("") && float == loss("--activations stored"));
        assert!(float != int8 && (float - int8).abs() < 0.05 * float, "{float} {int8}");
    }),
    ("instructions", |g| {
        let explained =
            |more: &str| err(&g.ok(&format!("eval {} --data d.safetensors --kernels explain {more}", in_bytes(g))));
        assert!(explained("--instructions portable").contains("threads, portable"));
        let run = |more: &str| json_out(&g.ok(&format!("eval {} --data d.safetensors --json {more}", in_bytes(g))));
        assert_eq!(run("--instructions portable")["model"]["metrics"], run("")["model"]["metrics"]);
        g.refused(&format!("{EVAL} --instructions abacus"), 2, "there are portable, avx2, avx512, amx");
    }),
    ("threads", |g| {
        let (one, three) = (g.eval("--threads 1"), g.eval("--threads 3"));
        assert_eq!((&one["threads"], &three["threads"]), (&1.into(), &3.into()));
        assert_eq!(one["model"]["metrics"], three["model"]["metrics"]);
        g.refused(&format!("{EVAL} --threads 0"), 2, "--threads");
    }),
    ("force", |g| {
        for flag in ["predictions", "confusion", "reliability"] {
            fs::write(g.path("mine"), "mine").unwrap();
            g.refused(&format!("{EVAL} --{flag} mine"), 1, "--force");
            g.eval(&format!("--{flag} mine --force"));
            assert!(fs::read(g.path("mine")).unwrap() != b"mine", "--{flag}");
        }
        g.refused(&format!("{EVAL} --predictions d.safetensors --force"), 2, "is read");
    }),
    ("json", |g| {
        let report = g.eval("");
        assert_eq!((&report["model"]["parameters"], &report["samples"]), (&59.into(), &13.into()));
        assert!(serde_json::from_slice::<Value>(&g.ok(EVAL).stdout).is_err());
    }),
    ("report", |g| {
        let printed = g.eval("--report report.json");
        assert_eq!(read_json(&g.path("report.json")), printed);
    }),
    ("quiet", |g| {
        assert!(out(&g.ok(EVAL)).contains("accuracy"));
        for flag in ["-q", "--quiet"] {
            let quiet = g.ok(&format!("{EVAL} {flag}"));
            assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
        }
    }),
    ("verbose", |g| {
        g.ok("quantize m.safetensors --scheme w8a16 --group channel --include fc1.weight -o q.safetensors -q");
        let told = |more: &str| out(&g.ok(&format!("eval q.safetensors --data d.safetensors {more}")));
        assert!(!told("").contains("fc1.weight_packed"));
        for flag in ["-v", "--verbose"] {
            assert!(told(flag).contains("fc1.weight_packed"), "{}", told(flag));
        }
    }),
];

/// The network with its weights in eight bits.
fn in_bytes(g: &Ground) -> &'static str {
    if !g.path("q8.safetensors").exists() {
        g.ok("quantize m.safetensors --scheme w8a16 --group channel --include fc*.weight -o q8.safetensors -q");
    }
    "q8.safetensors"
}

/// Evaluates a network that has only begun to spell words.
fn spelled(g: &Ground, more: &str) -> Value {
    if !g.path("words.safetensors").exists() {
        texts::spelled(&g.path("words.safetensors"), 200, 150);
        g.ok("train --model seq2seq --data words.safetensors --epochs 3 --batch 16 --learning-rate 0.01 -q -o words-m.safetensors");
    }
    let line = format!("eval words-m.safetensors --data words.safetensors --json {more}");
    json_out(&g.ok(&line))["model"]["metrics"]["sequences"].clone()
}

/// Evaluates a network on pictures, most of which it takes for something else.
fn pictures(g: &Ground, more: &str) {
    if !g.path("seen.safetensors").exists() {
        g.ok("train --model net.toml --data pictures.safetensors --epochs 0 -q -o seen.safetensors");
    }
    g.ok(&format!("eval seen.safetensors --data pictures.safetensors -q {more}"));
}

/// Runs all tests of flags and tells of every one that fails.
fn turn_every_flag(verb: &str, cases: &[Case]) {
    let fails = |case: fn(&Ground)| {
        let ground = Ground::new();
        catch_unwind(AssertUnwindSafe(|| case(&ground))).is_err()
    };
    let failed: Vec<_> = cases
        .iter()
        .filter(|(flag, case)| {
            eprintln!("dlopt {verb} --{flag}");
            fails(*case)
        })
        .map(|(flag, _)| *flag)
        .collect();
    assert!(failed.is_empty(), "flags of {verb} that fail: {failed:?}");
}

#[test]
fn every_flag_of_train_that_names_a_file_or_split_changes_something() {
    turn_every_flag("train", &TRAIN_FILES);
}

#[test]
fn every_setting_of_train_changes_something() {
    turn_every_flag("train", &TRAIN_SETTINGS);
}

#[test]
fn every_report_of_train_says_something() {
    turn_every_flag("train", &TRAIN_REPORTS);
}

#[test]
fn every_flag_of_eval_changes_something() {
    turn_every_flag("eval", &EVAL_FLAGS);
}

#[test]
fn no_flag_of_train_and_eval_is_without_a_test() {
    let named = |cases: &[Case]| cases.iter().map(|(flag, _)| (*flag).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(shown_flags("train"), named(&[&TRAIN_FILES[..], &TRAIN_SETTINGS, &TRAIN_REPORTS].concat()));
    assert_eq!(shown_flags("eval"), named(&EVAL_FLAGS));
}

#[test]
fn a_loss_of_yes_or_no_is_trained_and_measured() {
    let g = Ground::new();
    let mut text = String::from("a,b,both,one\n");
    let mut random = Random::new(9);
    for _ in 0..150 {
        let (a, b) = (random.normal(), random.normal());
        let _ = writeln!(text, "{a},{b},{},{}", u8::from(a > 0.0 && b > 0.0), u8::from(a > 0.0));
    }
    fs::write(g.path("yes.csv"), text).unwrap();
    g.ok("prepare yes.csv --targets both,one --split-at 110 -q -o yes.safetensors");
    let line = "train --model net.toml --data yes.safetensors --epochs 40 --learning-rate 0.02 -q -o";
    g.ok(&format!("{line} bce.safetensors --loss binary-cross-entropy"));
    g.ok(&format!("{line} mse.safetensors"));
    let report = |model: &str| {
        json_out(&g.ok(&format!("eval {model} --data yes.safetensors --json")))["model"]["metrics"].clone()
    };
    let right = report("bce.safetensors")["binary"]["accuracy"]["value"].as_f64().unwrap();
    assert!(right > 0.85, "{right}");
    assert!(report("mse.safetensors").get("regression").is_some());
}
