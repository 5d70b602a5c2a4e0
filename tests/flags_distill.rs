//! No flag of `distill` and `logits` is accepted and then ignored: each has a test here in which turning it changes a
//! weight, a printed figure or an exit code, and a flag that `--help` shows without a test fails.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::*;

/// A folder with small data, a teacher that learned and a description of its student.
struct Ground(tempfile::TempDir);

impl Ground {
    /// `d.safetensors`: 41 rows of three classes to train on, 12 to watch, 13 to test. `plain.safetensors`: the same
    /// without statistics. `t.safetensors`, of 13 hidden units, and `net.toml`, of 5.
    fn new() -> Self {
        let ground = Self(temp_dir());
        let mut random = Random::new(5);
        let mut text = String::from("a,b,c,d,class\n");
        for row in 0..66 {
            let class = [0, 1, 0, 2, 1, 0][row % 6];
            for feature in 0..4 {
                let _ = write!(text, "{},", if feature % 3 == class { 1.1 } else { -0.3 } + random.normal());
            }
            let _ = writeln!(text, "{}", ["red", "green", "blue"][class]);
        }
        fs::write(ground.path("d.csv"), text).unwrap();
        let net = |units: u32| {
            format!(
                "layers = [{{ type = \"dense\", units = {units}, activation = \"relu\" }}, {{ type = \"dense\", units = \"classes\" }}]"
            )
        };
        fs::write(ground.path("net.toml"), net(5)).unwrap();
        fs::write(ground.path("teacher.toml"), net(13)).unwrap();
        ground.ok("prepare d.csv --split-at 41,53 -q -o d.safetensors");
        ground.ok("prepare d.csv --split-at 41,53 --standardise none -q -o plain.safetensors");
        let train = "train --model teacher.toml --data d.safetensors --batch 8 --learning-rate 0.02 --threads 1 -q";
        ground.ok(&format!("{train} --epochs 6 -o t.safetensors"));
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn ok(&self, line: &str) -> Output {
        ok_in(self.0.path(), line)
    }

    /// Refused with this code, for a reason that is told, and nothing is written.
    fn refused(&self, line: &str, code: i32, said: &str) {
        let before = files_below(self.0.path());
        let done = run_in(self.0.path(), line);
        assert_code(&done, code, line);
        assert!(err(&done).contains(said), "{line}\nwanted {said}\n{}", err(&done));
        assert!(files_below(self.0.path()) == before, "{line} changed a file");
    }

    /// Distils with more flags.
    fn distil(&self, more: &str) -> (Stored, Value) {
        let report = json_out(&self.ok(&distil(&format!("--json -o out.safetensors --force {more}"))));
        (read_file(&self.path("out.safetensors")), report)
    }

    /// The trained tensors, without what the file says of the flags.
    fn weights(&self, more: &str) -> Vec<(String, Vec<u8>)> {
        self.distil(more).0.tensors.into_values().map(|t| (t.name, t.bytes)).collect()
    }

    /// Keeps answers with more flags.
    fn logits(&self, more: &str) -> (Vec<u8>, Value) {
        let report = json_out(&self.ok(&format!("{LOGITS} --json -o answers.safetensors --force {more}")));
        (fs::read(self.path("answers.safetensors")).unwrap(), report)
    }
}

/// A distillation in which `more` replaces or adds flags.
fn distil(more: &str) -> String {
    let mut line = "distill".to_owned();
    let usual = [
        ("--teacher", "t.safetensors"),
        ("--student", "net.toml"),
        ("--data", "d.safetensors"),
        ("--epochs", "2"),
        ("--batch", "8"),
        ("--threads", "1"),
        ("--test", "none"),
    ];
    for (flag, value) in usual {
        if !more.split_whitespace().any(|word| word == flag) {
            let _ = write!(line, " {flag} {value}");
        }
    }
    line + " " + more
}

const LOGITS: &str = "logits --teacher t.safetensors --data d.safetensors --threads 1";

/// Both give other weights.
fn assert_differ(g: &Ground, a: &str, b: &str) {
    assert!(g.weights(a) != g.weights(b), "`{a}` and `{b}` give the same weights");
}

/// A flag, and the test that turns it.
type Case = (&'static str, fn(&Ground));

/// Who learns what from whom.
const TEACHING: [Case; 15] = [
    ("teacher", |g| {
        g.ok("train --model net.toml --data d.safetensors --epochs 1 -q -o other.safetensors");
        assert_differ(g, "", "--teacher other.safetensors");
        assert_differ(
            g,
            "--teacher t.safetensors --teacher other.safetensors",
            "--teacher t.safetensors=2 --teacher other.safetensors",
        );
    }),
    ("student", |g| {
        assert_eq!(g.distil("").0.names.len(), 4);
        assert_eq!(g.distil("--student mlp").0.names.len(), 6);
    }),
    ("data", |g| {
        g.refused(&distil("--data nothing.safetensors -o x.safetensors"), 1, "nothing.safetensors");
        assert_differ(g, "", "--data plain.safetensors --use-own-preprocessing --split test");
    }),
    ("output", |g| {
        g.distil("");
        let bytes = fs::read(g.path("out.safetensors")).unwrap();
        assert!(g.ok(&distil("-q")).stdout == bytes && g.ok(&distil("-q -o -")).stdout == bytes);
        g.ok(&distil("--output folder/ -q"));
        assert_same_tensors(&read_folder(&g.path("folder")), &parse(&bytes));
    }),
    ("loss", |g| {
        assert_differ(g, "", "--loss kd=1");
        assert_differ(g, "--loss kd=1", "--loss kd=1,temperature=2");
        assert!(g.weights("") == g.weights("--loss kd=0.9,temperature=4 --loss ce=0.1"));
    }),
    ("unlabelled", |g| assert_differ(g, "--validation none", "--validation none --unlabelled validation")),
    ("start", |g| {
        assert_differ(g, "--student width=0.5", "--student width=0.5 --start fresh");
        assert!(g.weights("--student width=0.5") == g.weights("--student width=0.5 --start inherit"));
        g.refused(&distil("--start inherit -o x.safetensors"), 2, "--start");
    }),
    ("cache-teacher", |g| {
        g.distil("");
        assert!(!g.path("c.safetensors").exists());
        g.distil("--cache-teacher c.safetensors");
        assert_eq!(read_file(&g.path("c.safetensors")).get("logits").shape, [41, 1, 3]);
    }),
    ("top", |g| {
        g.distil("--cache-teacher c.safetensors --top 2");
        assert_eq!(read_file(&g.path("c.safetensors")).get("top.classes").shape, [41, 1, 2]);
        g.refused(&distil("--cache-teacher c.safetensors --top 1 -o x.safetensors"), 2, "the 2 largest logits");
        g.refused(&distil("--top 1 -o x.safetensors"), 2, "--cache-teacher");
    }),
    ("top-temperature", |g| {
        let rest = |name: &str, more: &str| {
            g.distil(&format!("--cache-teacher {name} --top 1 {more}"));
            read_file(&g.path(name)).get("top.rest").bytes.clone()
        };
        // The temperature of the losses, where nobody says.
        assert!(rest("a.safetensors", "") == rest("b.safetensors", "--top-temperature 4"));
        assert!(rest("c.safetensors", "--top-temperature 1") != rest("d1.safetensors", ""));
        assert!(rest("e.safetensors", "--loss kd=1,temperature=2") != rest("f.safetensors", ""));
        g.refused(&distil("--cache-teacher z.safetensors --top-temperature 1 -o x.safetensors"), 2, "--top");
    }),
    ("cache-dtype", |g| {
        let dtype = |name: &str, more: &str| {
            g.distil(&format!("--cache-teacher {name} {more}"));
            read_file(&g.path(name)).get("logits").dtype.clone()
        };
        assert_eq!(dtype("a.safetensors", ""), "F16");
        assert_eq!(dtype("b.safetensors", "--cache-dtype f16"), "F16");
        assert_eq!(dtype("c.safetensors", "--cache-dtype f32"), "F32");
    }),
    ("control", |g| {
        assert!(g.distil("--test test").1["control"].is_null());
        assert!(g.distil("--test test --control").1["gain"]["difference"].is_number());
    }),
    ("seeds", |g| {
        let runs = |more: &str| g.distil(&format!("--test test {more}")).1["student"]["runs"].as_array().unwrap().len();
        assert_eq!((runs(""), runs("--seeds 3")), (1, 3));
    }),
    ("test", |g| {
        let split = |more: &str| g.distil(more).1["split"].clone();
        assert!(split("--test none").is_null());
        assert_eq!(split("--test validation"), "validation");
        assert_eq!(
            json_out(&g.ok(&distil("--json -o out.safetensors --force").replace("--test none", "")))["split"],
            "test"
        );
    }),
    ("plot", |g| {
        g.distil("--plot p.svg");
        assert!(fs::read_to_string(g.path("p.svg")).unwrap().starts_with("<svg"));
    }),
];

/// Flags of every training, each with what it is put to; what they mean in detail is tested with `train`.
const TURNED: [&str; 31] = [
    "--freeze fc1.*",
    "--epochs 1",
    "--batch 5",
    "--accumulate 2",
    "--optimizer sgd",
    "--learning-rate 0.01",
    "--weight-decay 0.5",
    "--decay-all --weight-decay 0.5",
    "--momentum 0.9 --optimizer sgd",
    "--nesterov --optimizer sgd --momentum 0.9",
    "--beta1 0.5",
    "--beta2 0.9",
    "--rho 0.5 --optimizer rmsprop",
    "--epsilon 0.1",
    "--schedule cosine",
    "--warmup 6",
    "--label-smoothing 0.1",
    "--class-weights 1,2,5",
    "--augment-op noise=0.1",
    "--augment-seed 3 --augment-op noise=0.1",
    "--augment-views 1 --augment-op noise=0.1",
    "--clip-norm 0.01 --optimizer sgd",
    "--clip-value 0.001 --optimizer sgd",
    "--average 0.9",
    "--without-class green",
    "--split train+validation --validation none",
    "--keep-best --epochs 9 --learning-rate 0.3 --batch 3",
    "--seed 1",
    "--augment r.toml",
    "--patience 1 --epochs 9 --learning-rate 0.3",
    "--device candle",
];

/// What becomes of a student's weights that are 0 or are to be stored in few bits.
const RECOVERY: [Case; 9] = [
    ("zeros-of", |g| {
        g.ok("train --model net.toml --data d.safetensors --epochs 1 -q -o m.safetensors");
        g.ok("prune m.safetensors --sparsity 0.6 -o pruned.safetensors -q");
        let zeros = |more: &str| g.distil(more).0.get("fc1.weight").zeros();
        assert!(zeros("--zeros-of pruned.safetensors") > zeros(""));
    }),
    ("prune", |g| {
        let zeros = |more: &str| g.distil(more).0.get("fc1.weight").zeros();
        assert!(zeros("--prune 0.75") > zeros("--prune 0.25,tensor") && zeros("--prune 0.25,tensor") > zeros(""));
        g.refused(&distil("--prune 0.5,2..1 -o x.safetensors"), 2, "ends before it begins");
    }),
    ("zeros", |g| {
        g.ok("train --model net.toml --data d.safetensors --epochs 1 -q -o m.safetensors");
        g.ok("prune m.safetensors --sparsity 0.6 -o pruned.safetensors -q");
        let zeros = |more: &str| g.distil(&format!("--student pruned.safetensors {more}")).0.get("fc1.weight").zeros();
        assert!(zeros("") == zeros("--zeros keep") && zeros("--zeros keep") > zeros("--zeros free"));
    }),
    ("fake-quantize", |g| {
        let names = |more: &str| g.distil(more).0.names;
        assert!(names("--fake-quantize w8a16:channel").iter().any(|name| name == "fc1.weight_packed"));
        assert!(!names("").iter().any(|name| name == "fc1.weight_packed"));
    }),
    ("share-weights", |g| {
        assert_eq!(g.distil("--share-weights codebook2").0.get("fc1.weight_codebook").shape, [4]);
        assert_differ(g, "--share-weights codebook2", "--share-weights codebook2:channel");
        g.refused(&distil("--share-weights int8:channel -o x.safetensors"), 2, "gets no codebook");
    }),
    ("group", |g| {
        assert_differ(g, "--fake-quantize w8a16 --group channel", "--fake-quantize w8a16 --group 4");
        g.refused(&distil("--group 4 -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("method", |g| {
        let with = |method: &str| format!("--fake-quantize w4a16:channel --method {method}");
        assert_differ(g, &with("rtn"), &with("mse"));
        g.refused(&distil("--method mse -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("rule", |g| {
        assert_differ(g, "--fake-quantize w8a16:channel", "--fake-quantize w8a16:channel --rule fc2.*=skip");
        g.refused(&distil("--rule fc2.*=skip -o x.safetensors"), 2, "--fake-quantize");
    }),
    ("fallback", |g| {
        assert_differ(g, "--fake-quantize w8a16:4", "--fake-quantize w8a16:4 --fallback channel");
        g.refused(&distil("--fallback channel -o x.safetensors"), 2, "--fake-quantize");
    }),
];

/// Flags of every training that need more than a look at the weights.
const TRAINING: [Case; 6] = [
    ("scheduled-sampling", |g| {
        g.refused(&distil("--scheduled-sampling 0.5 -o x.safetensors"), 2, "--scheduled-sampling");
    }),
    ("validation", |g| {
        let loss = |more: &str| g.distil(more).1["histories"][0]["epochs"][0]["validation_loss"].as_f64();
        assert!(loss("").is_some() && loss("--validation none").is_none() && loss("--validation test") != loss(""));
    }),
    ("resume", |g| {
        let line = distil("--epochs 3000 --save-every 200 -q -o");
        g.ok(&format!("{line} whole.safetensors"));
        let line = format!("{line} killed.safetensors");
        let mut child = Command::new(DLOPT)
            .args(line.split_whitespace())
            .current_dir(g.0.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let state = g.path("killed.safetensors.dlopt-training/student-0.state.safetensors");
        while !state.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended without a state");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        g.refused(&line, 1, "--resume");
        g.ok(&format!("{line} --resume"));
        assert!(fs::read(g.path("whole.safetensors")).unwrap() == fs::read(g.path("killed.safetensors")).unwrap());
    }),
    ("save-every", |g| {
        // A loss that is no number ends the run and leaves the last state.
        let line = distil("--optimizer sgd --learning-rate 1e30 --epochs 9 -q -o");
        assert_code(&run_in(g.0.path(), &format!("{line} seldom.safetensors")), 1, "no number");
        assert!(!g.path("seldom.safetensors.dlopt-training/student-0.state.safetensors").exists());
        assert_code(&run_in(g.0.path(), &format!("{line} often.safetensors --save-every 1")), 1, "no number");
        assert!(g.path("often.safetensors.dlopt-training/student-0.state.safetensors").exists());
    }),
    ("force", |g| {
        g.refused(&distil("-o t.safetensors"), 2, "is read");
        fs::write(g.path("mine.safetensors"), "mine").unwrap();
        g.refused(&distil("-o mine.safetensors"), 1, "--force");
        g.ok(&distil("-o mine.safetensors --force -q"));
        assert!(fs::read(g.path("mine.safetensors")).unwrap() != b"mine");
    }),
    ("threads", |g| {
        for threads in ["1", "3"] {
            let told = err(&g.ok(&distil(&format!("--threads {threads} -o x.safetensors --force"))));
            assert!(told.contains(&format!("{threads} threads")), "{told}");
        }
        g.refused(&distil("--threads 0 -o y.safetensors"), 2, "--threads");
    }),
];

/// What is told, and what is done before and after.
const REPORTS: [Case; 6] = [
    ("use-own-preprocessing", |g| {
        g.refused(&distil("--data plain.safetensors -o x.safetensors"), 1, "--use-own-preprocessing");
        assert!(g.weights("--data plain.safetensors --use-own-preprocessing") == g.weights(""));
    }),
    ("dry-run", |g| {
        let before = files_below(g.0.path());
        let text = out(&g.ok(&distil("-o x.safetensors --dry-run")));
        assert!(text.contains("43 parameters") && text.contains("loss kd=0.9,temperature=4"), "{text}");
        assert!(files_below(g.0.path()) == before);
    }),
    ("json", |g| {
        let report = g.distil("").1;
        assert_eq!(report["output"], "out.safetensors");
        let piped = g.ok(&distil("--json"));
        assert!(piped.stdout == fs::read(g.path("out.safetensors")).unwrap());
        assert!(err(&piped).contains("\"histories\""), "{}", err(&piped));
    }),
    ("report", |g| {
        let printed = g.distil("--report report.json").1;
        assert_eq!(read_json(&g.path("report.json")), printed);
    }),
    ("quiet", |g| {
        let told = g.ok(&distil("-o x.safetensors"));
        assert!(err(&told).contains("epoch 2/2") && told.stdout.is_empty(), "{}", err(&told));
        for flag in ["-q", "--quiet"] {
            let quiet = g.ok(&distil(&format!("-o x.safetensors --force {flag}")));
            assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{}", err(&quiet));
        }
    }),
    ("verbose", |g| {
        let told = |more: &str| err(&g.ok(&distil(&format!("-o x.safetensors --force {more}"))));
        assert!(!told("").contains("fc2.weight"));
        for flag in ["-v", "--verbose"] {
            let text = told(flag);
            assert!(text.lines().any(|l| l.contains("fc2.weight") && l.contains("[3, 5]")), "{text}");
        }
    }),
];

/// Flags of `logits`.
const LOGITS_FLAGS: [Case; 22] = [
    ("teacher", |g| {
        g.ok("train --model net.toml --data d.safetensors --epochs 1 -q -o other.safetensors");
        let of = |more: &str| g.ok(&format!("logits --data d.safetensors -q {more}")).stdout;
        let (one, other) = (of("--teacher t.safetensors"), of("--teacher other.safetensors"));
        let both = of("--teacher t.safetensors --teacher other.safetensors");
        let logits = |bytes: &[u8]| parse(bytes).get("logits").bytes.clone();
        assert!(logits(&one) != logits(&other) && logits(&one) != logits(&both) && logits(&both) != logits(&other));
    }),
    ("data", |g| g.refused("logits --teacher t.safetensors --data nothing -o x.safetensors", 1, "nothing")),
    ("output", |g| {
        let bytes = g.logits("").0;
        assert!(g.ok(&format!("{LOGITS} -q")).stdout == bytes && g.ok(&format!("{LOGITS} -q -o -")).stdout == bytes);
        g.refused(&format!("{LOGITS} -o folder/"), 2, "-o answers.safetensors");
    }),
    ("split", |g| {
        let rows = |more: &str| parse(&g.logits(more).0).get("logits").shape[0];
        assert_eq!((rows(""), rows("--split test"), rows("--split train+test")), (41, 13, 54));
        g.refused(&format!("{LOGITS} --split tset -o x.safetensors"), 1, "did you mean `test`");
    }),
    ("layer", |g| {
        let names = |more: &str| parse(&g.logits(more).0).names;
        assert_eq!(names(""), ["logits"]);
        assert_eq!(names("--layer fc1").iter().collect::<BTreeSet<_>>().len(), 2);
        g.refused(&format!("{LOGITS} --layer fc9 -o x.safetensors"), 2, "fc1");
    }),
    ("top", |g| assert_eq!(parse(&g.logits("--top 2").0).get("top.logits").shape, [41, 1, 2])),
    ("top-temperature", |g| {
        let rest = |more: &str| parse(&g.logits(&format!("--top 1 {more}")).0).get("top.rest").bytes.clone();
        assert!(rest("--top-temperature 4") != rest("") && rest("--top-temperature 1") == rest(""));
        g.refused(&format!("{LOGITS} --top 1 --top-temperature 0 -o x.safetensors"), 2, "more than 0");
    }),
    ("cache-dtype", |g| {
        let dtype = |more: &str| parse(&g.logits(more).0).get("logits").dtype.clone();
        assert_eq!([dtype(""), dtype("--cache-dtype f16"), dtype("--cache-dtype f32")], ["F16", "F16", "F32"]);
    }),
    ("augment", |g| {
        fs::write(g.path("r.toml"), "[[ops]]\nop = \"noise\"\nsigma = 0.1\n").unwrap();
        assert!(g.logits("--augment r.toml").0 == g.logits("--augment-op noise=0.1").0);
        g.refused(&format!("{LOGITS} --augment none.toml -o x.safetensors"), 1, "none.toml");
    }),
    ("augment-op", |g| {
        let of = |more: &str| parse(&g.logits(more).0).get("logits").bytes.clone();
        assert!(of("--augment-op noise=0.1") != of("") && of("--augment-op noise=0.1") != of("--augment-op noise=0.2"));
    }),
    ("augment-seed", |g| {
        let of = |seed: u32| {
            parse(&g.logits(&format!("--augment-op noise=0.1 --augment-seed {seed}")).0).get("logits").bytes.clone()
        };
        assert!(of(1) != of(2));
    }),
    ("augment-views", |g| {
        let rows = |more: &str| parse(&g.logits(more).0).get("logits").shape[0];
        assert_eq!(rows("--augment-op noise=0.1 --augment-views 3"), 123);
        assert_eq!(rows("--augment-views 3"), 41, "nothing changes them");
    }),
    ("resume", |g| {
        // What a run of other flags left is made anew; what is there already is not.
        fs::create_dir(g.path("r.safetensors.dlopt-training")).unwrap();
        fs::write(g.path("r.safetensors.dlopt-training/answers-000000.safetensors"), "of something else").unwrap();
        g.refused(&format!("{LOGITS} -o r.safetensors"), 1, "--resume");
        g.ok(&format!("{LOGITS} -o r.safetensors --resume -q"));
        assert!(g.logits("").0 == fs::read(g.path("r.safetensors")).unwrap());
        assert!(!g.path("r.safetensors.dlopt-training").exists());
    }),
    ("force", |g| {
        fs::write(g.path("mine.safetensors"), "mine").unwrap();
        g.refused(&format!("{LOGITS} -o mine.safetensors"), 1, "--force");
        g.ok(&format!("{LOGITS} -o mine.safetensors --force -q"));
        assert!(fs::read(g.path("mine.safetensors")).unwrap() != b"mine");
    }),
    ("use-own-preprocessing", |g| {
        let line = "logits --teacher t.safetensors --data plain.safetensors -q";
        g.refused(&format!("{line} -o x.safetensors"), 1, "--use-own-preprocessing");
        let own = parse(&g.ok(&format!("{line} --use-own-preprocessing")).stdout);
        assert_eq!(own.get("logits"), parse(&g.logits("").0).get("logits"));
    }),
    ("dry-run", |g| {
        let before = files_below(g.0.path());
        let text = out(&g.ok(&format!("{LOGITS} --dry-run -o x.safetensors")));
        assert!(text.contains("1 views of 41 samples, 246 bytes"), "{text}");
        assert!(files_below(g.0.path()) == before);
    }),
    ("device", |g| g.refused(&format!("{LOGITS} --device abacus -o x.safetensors"), 2, "abacus")),
    ("threads", |g| {
        let bytes = g.logits("").0;
        assert!(g.ok("logits --teacher t.safetensors --data d.safetensors --threads 3 -q").stdout == bytes);
        g.refused("logits --teacher t.safetensors --data d.safetensors --threads 0 -o x.safetensors", 2, "--threads");
    }),
    ("json", |g| {
        let report = g.logits("").1;
        assert_eq!(
            (&report["rows"], &report["bytes"], &report["facts"]["views"]),
            (&41.into(), &246.into(), &1.into())
        );
    }),
    ("report", |g| {
        let printed = g.logits("--report report.json").1;
        assert_eq!(read_json(&g.path("report.json")), printed);
    }),
    ("quiet", |g| {
        assert!(err(&g.ok(&format!("{LOGITS} -o x.safetensors"))).contains("41 samples"));
        let quiet = g.ok(&format!("{LOGITS} -o y.safetensors -q"));
        assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    }),
    ("verbose", |g| {
        let told = |more: &str| err(&g.ok(&format!("{LOGITS} -o x.safetensors --force {more}")));
        assert!(!told("").contains("[41, 1, 3]") && told("-v").contains("[41, 1, 3]"), "{}", told("-v"));
    }),
];

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
fn every_flag_about_teachers_and_answers_changes_something() {
    turn_every_flag("distill", &TEACHING);
}

#[test]
fn every_setting_of_a_training_changes_a_student() {
    turn_every_flag("distill", &TRAINING);
    turn_every_flag("distill", &RECOVERY);
    let g = Ground::new();
    fs::write(g.path("r.toml"), "[[ops]]\nop = \"noise\"\nsigma = 0.1\n").unwrap();
    let mut same = Vec::new();
    for turned in TURNED {
        // The same but for the flag that stands first.
        let rest = turned[2..].find(" --").map_or("", |at| &turned[2 + at..]);
        if g.weights(turned) == g.weights(rest) {
            same.push(turned);
        }
    }
    assert!(same.is_empty(), "flags that change no weight: {same:?}");
}

#[test]
fn every_report_of_distill_says_something() {
    turn_every_flag("distill", &REPORTS);
}

#[test]
fn every_flag_of_logits_changes_something() {
    turn_every_flag("logits", &LOGITS_FLAGS);
}

#[test]
fn no_flag_of_distill_and_logits_is_without_a_test() {
    let named = |cases: &[Case]| cases.iter().map(|(flag, _)| (*flag).to_owned()).collect::<BTreeSet<_>>();
    let first = |turned: &&str| turned[2..].split(' ').next().unwrap().to_owned();
    let mut tested = named(&[&TEACHING[..], &TRAINING, &RECOVERY, &REPORTS].concat());
    tested.extend(TURNED.iter().map(first));
    assert_eq!(shown_flags("distill"), tested);
    assert_eq!(shown_flags("logits"), named(&LOGITS_FLAGS));
}
